"""Brings the quantization in a graph to one form before it is recognized: QuantizeLinear → DequantizeLinear pairs.

Quantizers put a pair behind every operator, also behind those that only move numbers. A pair that repeats the rounding
of another one changes nothing, and is taken out, so that what is left says where numbers are rounded.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final

from deepsparse.native.onnx_graph import Graph, Node
from deepsparse.native.qoperators import expanded

_MOVING: Final = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Gather", "Slice", "Expand")
)
"""Operators whose output has the numbers of their first input."""

_Rounding = tuple[bytes, ...]
"""A grid, by the bytes of scale and zero point."""


def rewritten(graph: Graph) -> Graph:
    """The same model, with as few roundings as there are. The graph itself stays as it is."""
    graph = _shared(expanded(graph))
    pairs = _Pairs(graph)
    alias = {
        read.outputs[0]: written.inputs[0]
        for written, read, grid in pairs.found.values()
        if pairs.is_on(written.inputs[0], grid) or pairs.is_rounded_later(read.outputs[0], grid)
    }
    if not alias:
        return graph
    return replace(graph, nodes=[_renamed(node, alias) for node in graph.nodes])


def _shared(graph: Graph) -> Graph:
    """The same model, in which what is quantized, or read, twice in the same way has one name."""
    alias: dict[str, str] = {}
    # What reads equal integers is equal once these have one name.
    for op_type in ("QuantizeLinear", "DequantizeLinear"):
        known: dict[tuple[str, ...], str] = {}
        for node in graph.nodes:
            if node.op_type == op_type and len(node.outputs) == 1:
                inputs = (*(_first(name, alias) for name in node.inputs), str(node.attributes))
                first = known.setdefault(inputs, node.outputs[0])
                if first != node.outputs[0]:
                    alias[node.outputs[0]] = first
    return replace(graph, nodes=[_renamed(node, alias) for node in graph.nodes]) if alias else graph


class _Pairs:
    """The pairs of a graph: QuantizeLinear and DequantizeLinear on one grid, by the name of their result."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._producers = {name: node for node in graph.nodes for name in node.outputs}
        self._users: dict[str, list[Node]] = defaultdict(list)
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self._users[name].append(node)
        self._outputs = {port.name for port in graph.outputs}
        self.found: dict[str, tuple[Node, Node, _Rounding]] = {}
        for read in graph.nodes:
            grid = self._grid(read, "DequantizeLinear")
            written = self._producers.get(read.inputs[0]) if grid is not None else None
            if grid is not None and written is not None and self._grid(written, "QuantizeLinear") == grid:
                self.found[read.outputs[0]] = (written, read, grid)

    def _grid(self, node: Node, op_type: str) -> _Rounding | None:
        """That of a node on one grid; None for other nodes."""
        if node.op_type != op_type or len(node.inputs) < 3 or len(node.outputs) != 1:
            return None
        arrays = [self._graph.constants.get(name) for name in node.inputs[1:3]]
        if any(array is None or array.size != 1 for array in arrays):
            return None
        return tuple(
            part
            for array in arrays
            if array is not None
            for part in (array.dtype.str.encode(), array.tobytes())
        )

    def is_on(self, value: str, grid: _Rounding) -> bool:
        """Whether a value is a part of a constant on this grid, so that rounding it changes nothing."""
        for _ in range(len(_MOVING)):
            node = self._producers.get(value)
            if node is None or not node.inputs:
                return False
            if node.op_type == "DequantizeLinear":
                return (
                    node.inputs[0] in self._graph.constants and self._grid(node, "DequantizeLinear") == grid
                )
            if node.op_type not in _MOVING:
                return False
            value = node.inputs[0]
        return False

    def is_rounded_later(self, value: str, grid: _Rounding, steps: int = 8) -> bool:
        """Whether all that reads a value only moves its numbers, and then rounds them to this grid."""
        users = [user for user in self._users[value] if user.op_type != "Shape"]
        return (
            steps > 0
            and bool(users)
            and value not in self._outputs
            and all(
                self._grid(user, "QuantizeLinear") == grid
                or (
                    user.op_type in _MOVING
                    and len(user.outputs) == 1
                    and user.inputs.count(value) == 1
                    and user.inputs[0] == value
                    and self.is_rounded_later(user.outputs[0], grid, steps - 1)
                )
                for user in users
            )
        )


def _renamed(node: Node, alias: dict[str, str]) -> Node:
    if not any(name in alias for name in node.inputs):
        return node
    return replace(node, inputs=[_first(name, alias) for name in node.inputs])


def _first(name: str, alias: dict[str, str]) -> str:
    # In a damaged file a value may depend on itself.
    for _ in range(len(alias)):
        if name not in alias:
            break
        name = alias[name]
    return name
