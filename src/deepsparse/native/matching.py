"""Pattern matching on a graph: nodes, constants, sums and transpositions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.onnx_graph import Graph, Node
from resparse.arrays import Array

_MOST_TERMS = 16
_MOST_SOURCES = 400
_LEAST_INPUTS = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "LayerNormalization", "Gather", "Reshape"), 2),
    **dict.fromkeys(("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Equal", "CumSum", "GatherElements"), 2),
    **dict.fromkeys(
        ("Transpose", "Softmax", "Cast", "Unsqueeze", "Expand", "Identity", "Not", "Concat", "Sum"), 1
    ),
    **dict.fromkeys(("Clip", "DynamicQuantizeLinear", "Split", "Squeeze"), 1),
    **dict.fromkeys(("ReduceMean", "Sqrt", "IsNaN"), 1),
    **dict.fromkeys(("MatMulInteger", "Pow"), 2),
    **dict.fromkeys(("Slice", "Where"), 3),
}
_PASSED = ("Cast", "Unsqueeze", "Expand", "Identity")


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
        self.memo: dict[tuple[object, ...], Any] = {}
        """What was found of values that all layers share, by what was asked."""
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
        for _ in range(_MOST_TERMS):
            node = self.producer(value, "Identity")
            if node is None:
                break
            value = node.inputs[0]
        return self.graph.constants.get(value)

    def scalar(self, value: str) -> float | None:
        """The value as a number; None if it is not a constant of one element."""
        array = self.constant(value)
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
        array = self.constant(value)
        if array is None or array.dtype != np.float32 or array.shape != (size,):
            raise UnsupportedError(f"{value!r} is no constant of {size} float32 numbers")
        return array

    def uses(self, value: str) -> int:
        """How many inputs of nodes a value is."""
        return self._uses[value]

    def through(self, value: str) -> str:
        """The value, before operators that only change its type or shape."""
        for _ in range(_MOST_TERMS):
            node = self.producer(value, *_PASSED)
            if node is None:
                break
            value = node.inputs[0]
        return value

    def sources(self, values: Iterable[str], ends: Callable[[str], bool] = lambda _: False) -> list[str]:
        """Values and what they are computed from, at most a few hundred, without going beyond those that are ends."""
        pending, found = [*values], dict[str, None]()
        while pending and len(found) < _MOST_SOURCES:
            name = pending.pop()
            if not name or name in found:
                continue
            found[name] = None
            node = self.producers.get(name)
            # A shape is no number of a value.
            if node is not None and node.op_type != "Shape" and not ends(name):
                pending += node.inputs
        return list(found)

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

    def transposed(self, value: str, permutation: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
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
