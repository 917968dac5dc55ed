"""Questions that one asks of a graph while following it from its output to its inputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import FloatLinear, Grid, Linear, Norm
from deepsparse.native.onnx_file import Graph, Node
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


@dataclass(frozen=True)
class Quantized:
    """A tensor that was put on a grid and is multiplied as integers.

    Attributes:
        source: the tensor before, and before it was transposed.
        grid: uint8 or int8, as `is_signed` says.
        read_scale: the scale with which the integers are read again; another one where a factor was folded in.
        permutation: of the axes between.
    """

    source: str
    grid: Grid
    is_signed: bool
    read_scale: float
    permutation: tuple[int, ...]

    def unsigned(self) -> Grid:
        """The grid as uint8: the same numbers."""
        return Grid(self.grid.scale, self.grid.zero_point + 128 * self.is_signed)

    def centred(self) -> Grid:
        """The grid as int8 around 0: the same numbers.

        Raises:
            UnsupportedError: 0 is not in the middle.
        """
        if self.grid.zero_point != 128 * (not self.is_signed):
            raise UnsupportedError("keys or values are on a grid with 0 aside from its middle")
        return Grid(self.grid.scale, 0)


class Matcher:
    """A graph, by its values.

    Raises:
        UnsupportedError: a node has fewer inputs than its operator takes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        for node in graph.nodes:
            if len(node.inputs) < _LEAST_INPUTS.get(node.kind, 0):
                raise UnsupportedError(f"a {node.kind} of its graph has {len(node.inputs)} inputs")
        self.producers = {name: node for node in graph.nodes for name in node.outputs}
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)

    def producer(self, value: str, *kinds: str) -> Node | None:
        """The node that makes a value, if it is of one of these operators."""
        node = self.producers.get(value)
        return node if node is not None and node.kind in kinds else None

    def needed(self, value: str, *kinds: str) -> Node:
        """The node that makes a value, which must be of one of these operators.

        Raises:
            UnsupportedError: it is of another.
        """
        node = self.producer(value, *kinds)
        if node is None:
            self.refuse(value, " or ".join(kinds))
        return node

    def refuse(self, value: str, wanted: str) -> NoReturn:
        """Say that a value is not made as it should be."""
        node = self.producers.get(value)
        found = f"made by {node.kind}" if node is not None else "no result of a node"
        raise UnsupportedError(f"the graph's value {value!r} is {found}, where {wanted} is wanted")

    def constant(self, value: str) -> Array | None:
        """The array that a value is, or None."""
        return self.graph.constants.get(value)

    def scalar(self, value: str) -> float | None:
        """The single number that a value is, or None."""
        array = self.graph.constants.get(value)
        return (
            float(array.reshape(()))
            if array is not None and array.size == 1 and array.dtype.kind in "fiu"
            else None
        )

    def vector(self, value: str, size: int) -> Array:
        """A constant float32 [size].

        Raises:
            UnsupportedError: it is none.
        """
        array = self.graph.constants.get(value)
        if array is None or array.dtype != np.float32 or array.shape != (size,):
            raise UnsupportedError(f"{value!r} is no constant of {size} float32 numbers")
        return array

    def through(self, value: str) -> str:
        """The value from which one is made by operators that change no number."""
        for _ in range(_MOST_TERMS):
            node = self.producer(value, *_PASSED)
            if node is None:
                break
            value = node.inputs[0]
        return value

    def terms(self, value: str) -> list[str]:
        """What is added up to a value; sums within it count if they are used nowhere else."""
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
        """A layer normalization over the last axis, and what it normalizes."""
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
        """What lies before the two nodes that put a tensor on a grid, maybe with transpositions between.

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
            UnsupportedError: it is none, or not quantized.
        """
        linear, source, others = self._linear(value)
        if others:
            self.refuse(value, "a linear layer")
        return linear, source

    def any_linear(self, value: str) -> tuple[Linear | FloatLinear, str]:
        """A linear layer, quantized or not, and its input.

        Raises:
            UnsupportedError: it is none, or half quantized.
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
        """A quantized linear layer whose result is added to something; its input, and that.

        Raises:
            UnsupportedError: as for `linear`.
        """
        linear, source, others = self._linear(value)
        if len(others) != 1:
            self.refuse(value, "the sum of a linear layer and its layer's input")
        return linear, source, others[0]

    def _linear(self, value: str) -> tuple[Linear, str, list[str]]:
        """A quantized linear layer, its input, and what else is added to it."""
        node, bias, others = self._sum(value)
        if self.producer(node.inputs[1], "DequantizeLinear") is None:
            # Exporters fold the transposition of weights in float, and with it goes their name; the bias keeps its own.
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
        """Of a linear layer: its product; the constant that is added to it, if one is; and what else is."""
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
        """Whether the weights of a product are [inputs, outputs], and not the other way round."""
        if node.kind == "MatMul":
            return True
        get = node.attributes.get
        if (get("alpha", 1.0), get("beta", 1.0), get("transA", 0)) != (1.0, 1.0, 0):
            raise UnsupportedError(f"the product with {node.inputs[1]!r} has factors of its own")
        return get("transB", 0) == 0

    def _weights(self, node: Node) -> tuple[Array, Array]:
        """Weights [outputs, inputs] around 0, and their scales [outputs]."""
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
        """The value before transpositions, and what all of them do; `permutation` is of those after `value`."""
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
        """Scale, zero point and signedness of a QuantizeLinear or DequantizeLinear of a whole tensor."""
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
