"""Pattern matching on a graph: nodes, constants, quantized tensors, linear layers, norms and activation functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import Activation, FloatLinear, Grid, Linear, Norm
from deepsparse.native.onnx_graph import Graph, Node
from resparse.arrays import Array

_MOST_TERMS = 16
_LEAST_INPUTS = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "LayerNormalization", "Gather", "Reshape"), 2),
    **dict.fromkeys(("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Equal", "CumSum", "GatherElements"), 2),
    **dict.fromkeys(
        ("Transpose", "Softmax", "Cast", "Unsqueeze", "Expand", "Identity", "Not", "Concat", "Sum"), 1
    ),
    "Slice": 3,
}
_PASSED = ("Cast", "Unsqueeze", "Expand", "Identity")

# Activation functions are recognized by their values here.
_POINTS: Final = np.linspace(-9, 9, 181)
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


@dataclass(frozen=True)
class Quantized:
    """A tensor that goes through QuantizeLinear and DequantizeLinear.

    Attributes:
        source: the float tensor, before quantization and transpositions.
        grid: of QuantizeLinear; uint8 or int8, as `is_signed` says.
        read_scale: of DequantizeLinear; differs from that of the grid where a factor was folded in.
        permutation: of the axes, by all transpositions between source and result.
    """

    source: str
    grid: Grid
    is_signed: bool
    read_scale: float
    permutation: tuple[int, ...]

    def unsigned(self) -> Grid:
        """The same grid for uint8."""
        return Grid(self.grid.scale, self.grid.zero_point + 128 * self.is_signed)

    def centred(self) -> Grid:
        """The same grid for int8 with zero point 0.

        Raises:
            UnsupportedError: it is not symmetric.
        """
        if self.grid.zero_point != 128 * (not self.is_signed):
            raise UnsupportedError("keys or values are on a grid with 0 aside from its middle")
        return Grid(self.grid.scale, 0)


class Matcher:
    """A graph, indexed by the names of its values.

    Raises:
        UnsupportedError: a node has fewer inputs than its operator takes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        for node in graph.nodes:
            if len(node.inputs) < _LEAST_INPUTS.get(node.op_type, 0):
                raise UnsupportedError(f"a {node.op_type} of its graph has {len(node.inputs)} inputs")
        self.producers = {name: node for node in graph.nodes for name in node.outputs}
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)

    def producer(self, value: str, *op_types: str) -> Node | None:
        """The node that computes a value, if it has one of these operators; else None."""
        node = self.producers.get(value)
        return node if node is not None and node.op_type in op_types else None

    def needed(self, value: str, *op_types: str) -> Node:
        """The node that computes a value, which must have one of these operators.

        Raises:
            UnsupportedError: it has another.
        """
        node = self.producer(value, *op_types)
        if node is None:
            self.refuse(value, " or ".join(op_types))
        return node

    def refuse(self, value: str, wanted: str) -> NoReturn:
        """Raise UnsupportedError: a value is not computed as expected."""
        node = self.producers.get(value)
        found = f"made by {node.op_type}" if node is not None else "no result of a node"
        raise UnsupportedError(f"the graph's value {value!r} is {found}, where {wanted} is wanted")

    def constant(self, value: str) -> Array | None:
        """The value as an array; None if it is not constant."""
        return self.graph.constants.get(value)

    def scalar(self, value: str) -> float | None:
        """The value as a number; None if it is not a constant of one element."""
        array = self.graph.constants.get(value)
        return (
            float(array.reshape(()))
            if array is not None and array.size == 1 and array.dtype.kind in "fiu"
            else None
        )

    def vector(self, value: str, size: int) -> Array:
        """A constant, float32 [size].

        Raises:
            UnsupportedError: it is not.
        """
        array = self.graph.constants.get(value)
        if array is None or array.dtype != np.float32 or array.shape != (size,):
            raise UnsupportedError(f"{value!r} is no constant of {size} float32 numbers")
        return array

    def through(self, value: str) -> str:
        """The value, before operators that only change its type or shape."""
        for _ in range(_MOST_TERMS):
            node = self.producer(value, *_PASSED)
            if node is None:
                break
            value = node.inputs[0]
        return value

    def terms(self, value: str) -> list[str]:
        """The terms of a sum, nested sums included if they are used nowhere else."""
        pending, found = [value], []
        for _ in range(_MOST_TERMS):
            if not pending:
                break
            first, *pending = pending
            node = self.producer(first, "Add", "Sum")
            if node is None or (first != value and self._uses[first] > 1):
                found.append(first)
            else:
                pending = [*node.inputs, *pending]
        if pending:
            self.refuse(value, "a sum of a few terms")
        return found

    def norm(self, value: str) -> tuple[Norm, str]:
        """A layer normalization over the last axis, and its input."""
        node = self.needed(value, "LayerNormalization")
        weight = self.constant(node.inputs[1])
        if (
            weight is None
            or weight.dtype != np.float32
            or weight.ndim != 1
            or node.attributes.get("axis", -1) not in (-1, 2)
        ):
            self.refuse(value, "a LayerNormalization of the last axis")
        bias = self.vector(node.inputs[2], weight.size) if len(node.inputs) > 2 else np.zeros_like(weight)
        epsilon = node.attributes.get("epsilon", 1e-5)
        return Norm(weight, bias, epsilon if isinstance(epsilon, float) else 1e-5), node.inputs[0]

    def quantized(self, value: str) -> Quantized:
        """A quantized tensor, maybe with transpositions around QuantizeLinear.

        Raises:
            UnsupportedError: the tensor is not quantized.
        """
        read = self.needed(value, "DequantizeLinear")
        inner, first = self._transposed(read.inputs[0], ())
        written = self.needed(inner, "QuantizeLinear")
        source, permutation = self._transposed(written.inputs[0], first)
        scale, zero_point, is_signed = self._grid(written)
        read_scale, *read_grid = self._grid(read)
        if read_grid != [zero_point, is_signed]:
            raise UnsupportedError(f"{value!r} is read with another zero point than it was written with")
        return Quantized(source, Grid(scale, zero_point), is_signed, read_scale, permutation)

    def linear(self, value: str) -> tuple[Linear, str]:
        """A quantized linear layer, and its input.

        Raises:
            UnsupportedError: the value is computed otherwise, or not quantized.
        """
        linear, source, others = self._linear(value)
        if others:
            self.refuse(value, "a linear layer")
        return linear, source

    def any_linear(self, value: str) -> tuple[Linear | FloatLinear, str]:
        """A linear layer, quantized or not, and its input.

        Raises:
            UnsupportedError: the value is computed otherwise, or only one of inputs and weights is quantized.
        """
        node, bias, others = self._sum(value)
        name, permutation = self._transposed(node.inputs[1], ())
        weights = self.constant(name)
        if weights is None or others or self.producer(node.inputs[0], "DequantizeLinear") is not None:
            return self.linear(value)
        if weights.dtype != np.float32 or weights.ndim != 2:
            raise UnsupportedError(f"the weights {name!r} are no matrix of float32 numbers")
        if self._is_by_inputs(node) != (permutation == (1, 0)):
            weights = weights.T
        return FloatLinear(weights, self._biases(bias, len(weights))), node.inputs[0]

    def added_linear(self, value: str) -> tuple[Linear, str, str]:
        """A quantized linear layer and a residual added to it: the layer, its input, the residual.

        Raises:
            UnsupportedError: as for `linear`.
        """
        linear, source, others = self._linear(value)
        if len(others) != 1:
            self.refuse(value, "the sum of a linear layer and its layer's input")
        return linear, source, others[0]

    def _linear(self, value: str) -> tuple[Linear, str, list[str]]:
        """A quantized linear layer, its input, and the other terms that are added to it."""
        node, bias, others = self._sum(value)
        if self.producer(node.inputs[1], "DequantizeLinear") is None:
            # Exporters fold the transposition of float weights, which then lose their name; the bias keeps its own.
            raise UnsupportedError(
                f"the weights of the linear layer with {bias or value!r} are not quantized"
            )
        weights, scales = self._weights(node)
        biases = self._biases(bias, len(weights))
        x = self.quantized(node.inputs[0])
        if x.permutation or x.read_scale != x.grid.scale:
            self.refuse(node.outputs[0], "a product of a tensor on one grid")
        return Linear(weights, biases, scales, x.unsigned()), x.source, others

    def _sum(self, value: str) -> tuple[Node, str | None, list[str]]:
        """The product of a linear layer, the name of its bias or None, and the other terms that are added."""
        terms = self.terms(value)
        products = [term for term in terms if self.producer(term, "MatMul", "Gemm") is not None]
        if len(products) != 1:
            self.refuse(value, "a linear layer")
        node = self.needed(products[0], "MatMul", "Gemm")
        added = [*filter(None, node.inputs[2:]), *(term for term in terms if term != products[0])]
        constants = [term for term in added if self.constant(term) is not None]
        if len(constants) > 1:
            self.refuse(value, "a linear layer with one bias")
        return node, next(iter(constants), None), [term for term in added if term not in constants]

    def _biases(self, name: str | None, size: int) -> Array:
        return self.vector(name, size) if name is not None else np.zeros(size, np.float32)

    def _is_by_inputs(self, node: Node) -> bool:
        """Whether the weights of a product are [inputs, outputs]; else [outputs, inputs]."""
        if node.op_type == "MatMul":
            return True
        get = node.attributes.get
        if (get("alpha", 1.0), get("beta", 1.0), get("transA", 0)) != (1.0, 1.0, 0):
            raise UnsupportedError(f"the product with {node.inputs[1]!r} has factors of its own")
        return get("transB", 0) == 0

    def _weights(self, node: Node) -> tuple[Array, Array]:
        """Weights, int8 [outputs, inputs] with zero point 0, and their scales, float32 [outputs]."""
        name = node.inputs[1]
        read = self.producer(name, "DequantizeLinear")
        integers = self.constant(read.inputs[0]) if read is not None else None
        if read is None or integers is None:
            raise UnsupportedError(f"the weights {name!r} are not quantized")
        is_transposed = self._is_by_inputs(node)
        scales, axis = self.constant(read.inputs[1]), read.attributes.get("axis", 1)
        if integers.ndim != 2 or scales is None or not isinstance(axis, int):
            raise UnsupportedError(f"the weights {name!r} are no matrix of integers with constant scales")
        weights = integers.T if is_transposed else integers
        if scales.size > 1 and (axis % 2 != int(is_transposed) or scales.shape != (len(weights),)):
            raise UnsupportedError(f"the weights {name!r} have scales by inputs, not by outputs")
        zero_points = self.constant(read.inputs[2]) if len(read.inputs) > 2 else np.zeros((), integers.dtype)
        middle = {np.dtype(np.int8): 0, np.dtype(np.uint8): 128}.get(integers.dtype)
        if middle is None or zero_points is None or (zero_points != middle).any():
            raise UnsupportedError(f"the weights {name!r} are not 8-bit integers around 0")
        if middle:
            weights = (weights ^ 0x80).view(np.int8)
        full = np.broadcast_to(scales.astype(np.float32).reshape(-1), (len(weights),))
        _check_scales(full, name)
        return weights, full

    def _transposed(self, value: str, permutation: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """The value before transpositions, and their permutation, followed by `permutation`."""
        for _ in range(_MOST_TERMS):
            node = self.producer(value, "Transpose")
            axes = node.attributes.get("perm") if node is not None else None
            if node is None or not isinstance(axes, list):
                break
            if sorted(axes) != list(range(len(axes))) or len(permutation) not in (0, len(axes)):
                self.refuse(value, "a transposition")
            moved = [int(axis) for axis in axes]
            permutation = tuple(moved[axis] for axis in permutation) if permutation else tuple(moved)
            value = node.inputs[0]
        return value, permutation

    def _grid(self, node: Node) -> tuple[float, int, bool]:
        """Scale, zero point and signedness of a per-tensor QuantizeLinear or DequantizeLinear."""
        scale = self.scalar(node.inputs[1])
        zero_point = self.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
        if (
            scale is None
            or zero_point is None
            or zero_point.size != 1
            or zero_point.dtype not in (np.int8, np.uint8)
        ):
            raise UnsupportedError(f"{node.inputs[0]!r} is not on one grid of 8 bits")
        _check_scales(np.array([scale]), node.inputs[0])
        return scale, int(zero_point.reshape(())), zero_point.dtype == np.int8


def _check_scales(scales: Array, what: str) -> None:
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise UnsupportedError(f"{what!r} has a scale that is no positive number")


def activation(matcher: Matcher, value: str) -> tuple[Activation, str]:
    """The activation function that computes a value, and its input.

    Exporters write each function with different operators, so it is recognized by its values.

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
    raise UnsupportedError(f"the activation function that makes {value!r} is unknown")


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
