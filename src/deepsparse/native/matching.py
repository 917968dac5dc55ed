"""Pattern matching on a graph: nodes, constants, sums and transpositions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.onnx_graph import Graph, Node
from resparse.arrays import Array

_MOST_TERMS = 16
_MOST_SOURCES = 400
_MOST_SEARCHED = 100
_MODULE = re.compile(
    r"((?:[A-Za-z_]\w*\.)+\w+?)\.(?:weight|bias|quant|module|activation_post_process|\w+_quant_stubs)\b"
)
_MOST_ROUNDINGS = 3  # of a constant
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

    def refuse(self, value: str, wanted: str, setting: str = "") -> NoReturn:
        """Raise UnsupportedError: a value is not computed as expected.

        Args:
            value: its name.
            wanted: what it should be.
            setting: as of UnsupportedError.
        """
        node = self.producers.get(value)
        found = "no result of a node"
        if node is not None:
            found = f"made by {node.op_type}" + (f" {node.name!r}" if node.name else "") + self._place(value)
        raise UnsupportedError(f"the graph's value {value!r} is {found}, where {wanted} is wanted", setting)

    def _place(self, value: str) -> str:
        """The module whose weights or ranges a value is computed from, where exporters have left its name."""
        pending, seen = [value], {value}
        for name in pending:
            node = self.producers.get(name) if len(pending) < _MOST_SEARCHED else None
            for given in node.inputs if node is not None else ():
                module = _MODULE.match(given)
                if module and given in self.graph.constants:
                    return f" after {module[1]!r}"
                if given not in seen:
                    seen.add(given)
                    pending.append(given)
        return ""

    def constant(self, value: str, steps: int = _MOST_ROUNDINGS) -> Array | None:
        """The value as an array, dequantized where it is stored quantized; None if it is not constant."""
        value = self._original(value)
        read = self.producer(value, "DequantizeLinear")
        return self._dequantized(read, steps) if read is not None else self.graph.constants.get(value)

    def _original(self, value: str) -> str:
        """The value that Identity nodes have given another name."""
        for _ in range(_MOST_TERMS):
            node = self.producer(value, "Identity")
            if node is None:
                break
            value = node.inputs[0]
        return value

    def _dequantized(self, read: Node, steps: int) -> Array | None:
        stored, scale = (self.graph.constants.get(self._original(name)) for name in read.inputs[:2])
        zero_point = (
            self.graph.constants.get(read.inputs[2]) if len(read.inputs) > 2 else np.zeros((), np.int32)
        )
        axis = read.attributes.get("axis", 1)
        if stored is None and scale is not None and zero_point is not None and steps > 0:
            stored = self._quantized(read.inputs[0], scale, zero_point, steps - 1)
        if stored is None or scale is None or zero_point is None or stored.dtype.kind not in "iu":
            return None
        if scale.size > 1:
            if (
                not isinstance(axis, int)
                or not -stored.ndim <= axis < stored.ndim
                or stored.shape[axis] != scale.size
            ):
                return None
            shape = [1] * stored.ndim
            shape[axis] = scale.size
            scale = scale.reshape(shape)
            zero_point = (
                zero_point.reshape(shape) if zero_point.size == scale.size else zero_point.reshape(-1)[:1]
            )
        elif scale.size != 1 or zero_point.size != 1:
            return None
        else:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        centred = stored.astype(np.int64) - zero_point
        found: Array = centred.astype(np.float32) * scale.astype(np.float32)
        return found

    def _quantized(self, value: str, scale: Array, zero_point: Array, steps: int) -> Array | None:
        """The integers of a constant that the graph itself quantizes, with this one grid."""
        written = self.producer(value, "QuantizeLinear")
        grid = [self.graph.constants.get(name) for name in written.inputs[1:3]] if written is not None else []
        if (
            written is None
            or scale.size != 1
            or not all(
                one is not None and np.array_equal(one, other)
                for one, other in zip(grid, (scale, zero_point), strict=False)
            )
        ):
            return None
        found = self.constant(written.inputs[0], steps)
        if found is None or found.dtype != np.float32 or zero_point.dtype not in (np.int8, np.uint8):
            return None
        bounds = np.iinfo(zero_point.dtype)
        integers = np.rint(found / scale.reshape(())) + zero_point.reshape(()).astype(np.float32)
        stored: Array = np.clip(integers, bounds.min, bounds.max).astype(zero_point.dtype)
        return stored

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
