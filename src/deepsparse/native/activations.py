"""Activation functions in a graph, recognized by their values: exporters write each with different operators."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import Activation
from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node
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


def activation(matcher: Matcher, value: str) -> tuple[Activation, str]:
    """The activation function that computes a value, and its input.

    Raises:
        UnsupportedError: the engine does not have it.
    """
    known: dict[str, Array] = {}
    sources: set[str] = set()
    with np.errstate(all="ignore"):
        found = _evaluate(matcher, value, known, sources)
        if len(sources) == 1:
            for candidate, function in _FUNCTIONS.items():
                if np.allclose(found, function(_POINTS), rtol=_TOLERANCE, atol=_TOLERANCE):
                    return candidate, sources.pop()
    raise UnsupportedError(f"the activation function that makes {value!r} (`hidden_act`) is unknown")


def gated_activation(matcher: Matcher, value: str) -> tuple[Activation, str, str] | None:
    """The activation function in `activation(x) * gate` (GLU), x and the gate; None where a value is something else."""
    sources: set[str] = set()
    with np.errstate(all="ignore"):
        _evaluate(matcher, value, {}, sources)
        for x, gate in itertools.permutations(sorted(sources)) if len(sources) == 2 else ():
            found = _evaluate(matcher, value, {x: _POINTS, gate: _GATES}, set())
            for candidate, function in _FUNCTIONS.items():
                if np.allclose(found, function(_POINTS) * _GATES, rtol=_TOLERANCE, atol=_TOLERANCE):
                    return candidate, x, gate
    return None


def _evaluate(
    matcher: Matcher, value: str, known: dict[str, Array], sources: set[str], steps: int = _MOST_NODES
) -> Array:
    """A value as a function of its source, at `_POINTS`; collects the names of the sources."""
    if value in known:
        return known[value]
    # In a damaged file a value may depend on itself.
    if steps == 0:
        raise UnsupportedError(f"the activation function around {value!r} is unknown")
    node = matcher.producers.get(value)
    inputs = _inputs(matcher, node) if node is not None else None
    if node is None or inputs is None:
        sources.add(value)
        return _POINTS
    parts = [
        part if isinstance(part, float) else _evaluate(matcher, part, known, sources, steps - 1)
        for part in inputs
    ]
    known[value] = _OPERATORS[node.op_type](*parts)
    return known[value]


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
