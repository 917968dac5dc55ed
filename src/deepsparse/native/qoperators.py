"""Operators of ONNX Runtime that take and give integers (its QOperator form), written as operators between a
DequantizeLinear for each input and a QuantizeLinear.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from deepsparse.native.onnx_graph import Graph, Node

_MICROSOFT: Final = "com.microsoft."

_TWO_INPUTS: Final = {
    "QLinearMatMul": "MatMul",
    f"{_MICROSOFT}QLinearAdd": "Add",
    f"{_MICROSOFT}QLinearMul": "Mul",
}
"""Inputs: three for each factor (numbers, scale, zero point), and scale and zero point of the output."""

_ONE_INPUT: Final = {f"{_MICROSOFT}QLinearSoftmax": "Softmax", f"{_MICROSOFT}QLinearSigmoid": "Sigmoid"}
_MOVING: Final = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Slice")

_Grid = tuple[str, str]
"""The names of scale and zero point."""


def expanded(graph: Graph) -> Graph:
    """The same model without these operators. The graph itself stays as it is."""
    known = {*_TWO_INPUTS, *_ONE_INPUT, f"{_MICROSOFT}QGemm", f"{_MICROSOFT}QLinearWhere"}
    if not any(node.op_type in known for node in graph.nodes):
        return graph
    return _Expansion(graph).graph()


class _Expansion:
    """Integers and their grids, in the order of the nodes; which ONNX asks to be that of the computation."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._grids: dict[str, _Grid] = {}
        self._constants = dict(graph.constants)
        self._count = 0

    def graph(self) -> Graph:
        """The result."""
        nodes = [new for node in self._graph.nodes for new in self._expanded(node)]
        return replace(self._graph, nodes=nodes, constants=self._constants)

    def _expanded(self, node: Node) -> Iterator[Node]:
        given = node.inputs
        # `MatMul` has no attributes, and those of sums and products are none of theirs.
        if node.op_type in _TWO_INPUTS and len(given) >= 8:
            parts = [given[:3], given[3:6]]
            yield from self._computed(node, _TWO_INPUTS[node.op_type], parts, given[6:8])
        elif node.op_type in _ONE_INPUT and len(given) >= 5:
            yield from self._computed(node, _ONE_INPUT[node.op_type], [given[:3]], given[3:5])
        elif node.op_type == f"{_MICROSOFT}QLinearWhere" and len(given) >= 9:
            yield from self._computed(node, "Where", [given[1:4], given[4:7]], given[7:9], given[:1])
        elif node.op_type == f"{_MICROSOFT}QGemm" and len(given) >= 9:
            yield from self._gemm(node)
        elif node.op_type in _MOVING and given and given[0] in self._grids:
            grid = self._grids[given[0]]
            numbers, moved = self._new(), self._new()
            yield Node("DequantizeLinear", [given[0], *grid], [numbers])
            yield replace(node, inputs=[numbers, *given[1:]], outputs=[moved])
            yield self._written(moved, node.outputs[0], grid)
        elif node.op_type in _MOVING and given and self._is_table(node):
            read_with = self._grid_of_reader(node.outputs[0])
            if read_with is not None:
                self._grids[node.outputs[0]] = read_with
            yield node
        else:
            if node.op_type == "QuantizeLinear" and len(given) > 2:
                self._grids[node.outputs[0]] = (given[1], given[2])
            yield node

    def _computed(
        self,
        node: Node,
        op_type: str,
        inputs: list[list[str]],
        output: list[str],
        before: list[str] | None = None,
    ) -> Iterator[Node]:
        names = []
        for numbers, scale, zero_point in inputs:
            names.append(self._new())
            axis = {"axis": 1} if self._is_long(scale) else {}
            yield Node("DequantizeLinear", [numbers, scale, zero_point], [names[-1]], dict(axis))
        result = self._new()
        attributes = {"axis": node.attributes.get("axis", -1)} if op_type == "Softmax" else {}
        yield Node(op_type, [*(before or []), *names], [result], attributes)
        yield self._written(result, node.outputs[0], (output[0], output[1]))

    def _gemm(self, node: Node) -> Iterator[Node]:
        """Its bias is of int32, on the grid of the product."""
        x, weights, bias, result = (self._new() for _ in range(4))
        given = node.inputs
        by_output = 0 if node.attributes.get("transB", 0) else 1
        yield Node("DequantizeLinear", given[:3], [x])
        yield Node("DequantizeLinear", given[3:6], [weights], {"axis": by_output})
        scales = [self._constants.get(given[place]) for place in (1, 4)]
        whole = self._constants.get(given[6])
        if whole is not None and scales[0] is not None and scales[1] is not None:
            self._constants[bias] = (whole * (scales[0] * scales[1]).reshape(-1)).astype(np.float32)
        attributes = {name: value for name, value in node.attributes.items() if name != "alpha"}
        yield Node(
            "Gemm", [x, weights, bias], [result], {**attributes, "alpha": node.attributes.get("alpha", 1.0)}
        )
        if len(given) > 7:
            yield self._written(result, node.outputs[0], (given[7], given[8]))

    def _written(self, numbers: str, output: str, grid: _Grid) -> Node:
        self._grids[output] = grid
        return Node("QuantizeLinear", [numbers, *grid], [output])

    def _is_table(self, node: Node) -> bool:
        """Whether it reads constant integers."""
        found = self._constants.get(node.inputs[0])
        return found is not None and found.dtype in (np.int8, np.uint8)

    def _grid_of_reader(self, value: str) -> _Grid | None:
        """That with which a DequantizeLinear or another of these operators reads a value."""
        for node in self._graph.nodes:
            if value in node.inputs:
                place = node.inputs.index(value)
                if len(node.inputs) > place + 2:
                    return (node.inputs[place + 1], node.inputs[place + 2])
        return None

    def _is_long(self, name: str) -> bool:
        found = self._constants.get(name)
        return found is not None and found.size > 1

    def _new(self) -> str:
        self._count += 1
        return f"expanded {self._count}"
