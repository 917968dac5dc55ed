"""Activation functions in a graph, recognized by their values: exporters write each with different operators."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import Activation, AnyActivation, Grid, Tabulated
from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node
from deepsparse.native.quantized import integer_product, rounded
from resparse.arrays import Array

_POINTS: Final = np.linspace(-9, 9, 181)
"""Where functions are compared."""

_GATES: Final = np.cos(_POINTS)
"""Of a gated function; in no order with the points."""

_TOLERANCE: Final = 1e-5
_MOST_NODES: Final = 12
_erf: Final = np.vectorize(math.erf, otypes=[float])

_OPERATORS: Final[dict[str, Callable[..., Array]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Erf": _erf,
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}

_FUNCTIONS: Final[dict[Activation, Callable[[Array], Array]]] = {
    Activation.NONE: lambda x: x,
    Activation.GELU: lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    Activation.GELU_TANH: lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.TANH: np.tanh,
    Activation.SILU: lambda x: x / (1 + np.exp(-x)),
}


def activation(matcher: Matcher, value: str) -> tuple[AnyActivation, str]:
    """The activation function that computes a value, and its input.

    Raises:
        UnsupportedError: the engine does not have it.
    """
    function = _Function(matcher, _POINTS)
    with np.errstate(all="ignore"):
        found = function.value(value)
        source = next(iter(function.sources), "")
        if len(function.sources) == 1:
            for candidate, known in _FUNCTIONS.items():
                if np.allclose(found, known(_POINTS), rtol=_TOLERANCE, atol=_TOLERANCE):
                    return candidate, source
            grid, _ = rounded(matcher, source)
            if grid is not None:
                return _tabulated(matcher, value, grid), source
    raise UnsupportedError(f"the activation function that makes {value!r} (`hidden_act`) is unknown")


def gated_activation(matcher: Matcher, value: str) -> tuple[Activation, str, str] | None:
    """The activation function in `activation(x) * gate` (GLU), x and the gate; None where a value is something else."""
    function = _Function(matcher, _POINTS)
    with np.errstate(all="ignore"):
        function.value(value)
        sources = sorted(function.sources)
        for x, gate in itertools.permutations(sources) if len(sources) == 2 else ():
            found = _Function(matcher, _POINTS, {x: _POINTS, gate: _GATES}).value(value)
            for candidate, known in _FUNCTIONS.items():
                if np.allclose(found, known(_POINTS) * _GATES, rtol=_TOLERANCE, atol=_TOLERANCE):
                    return candidate, x, gate
    return None


def _tabulated(matcher: Matcher, value: str, grid: Grid) -> Tabulated:
    """Any function of a rounded number: quantizers round in the middle of one, too."""
    numbers = (np.arange(256) - grid.zero_point).astype(np.float32) * np.float32(grid.scale)
    values = _Function(matcher, numbers).value(value).astype(np.float32)
    if not np.isfinite(values).all():
        raise UnsupportedError(f"the activation function that makes {value!r} (`hidden_act`) is not finite")
    return Tabulated(values, grid)


class _Function:
    """Values as functions of one source, at points; collects the names of the sources that are not known."""

    def __init__(self, matcher: Matcher, points: Array, known: Mapping[str, Array] | None = None) -> None:
        self._matcher = matcher
        self._points = points
        self._known: dict[str, Array] = dict(known or {})
        self.sources: set[str] = set()

    def value(self, name: str, steps: int = _MOST_NODES) -> Array:
        """A value at the points.

        Raises:
            UnsupportedError: it takes too many operators.
        """
        if name not in self._known:
            # In a damaged file a value may depend on itself.
            if steps == 0:
                raise UnsupportedError(f"the activation function around {name!r} is unknown")
            self._known[name] = self._computed(name, steps)
        return self._known[name]

    def _computed(self, name: str, steps: int) -> Array:
        grid, before = rounded(self._matcher, name)
        if grid is not None and self._inputs_of(before) is not None:
            return _round(self.value(before, steps - 1), grid)
        inputs = self._inputs_of(name) if grid is None else None
        if inputs is None:
            self.sources.add(name)
            return self._points
        parts = [
            self._points.dtype.type(part) if isinstance(part, float) else self.value(part, steps - 1)
            for part in inputs
        ]
        return _OPERATORS[self._matcher.producers[name].op_type](*parts)

    def _inputs_of(self, name: str) -> list[float | str] | None:
        node = self._matcher.producers.get(name)
        if node is None or integer_product(self._matcher, name) is not None:
            return None
        return _inputs(self._matcher, node)


def _round(x: Array, grid: Grid) -> Array:
    """As ONNX Runtime rounds."""
    scale = x.dtype.type(grid.scale)
    found: Array = (
        np.clip(np.rint(x / scale), grid.least - grid.zero_point, grid.most - grid.zero_point) * scale
    )
    return found


def _inputs(matcher: Matcher, node: Node) -> list[float | str] | None:
    """The inputs of an elementwise operator, scalars as numbers; None for other nodes, and for those with a bias."""
    function = _OPERATORS.get(node.op_type)
    arity = 2 if isinstance(function, np.ufunc) and function.nin == 2 else 1
    if function is None or len(node.inputs) != arity:
        return None
    inputs: list[float | str] = []
    for name in node.inputs:
        number = matcher.scalar(name)
        if number is None and matcher.constant(name) is not None:
            return None
        inputs.append(name if number is None else number)
    return inputs
