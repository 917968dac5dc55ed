"""Quantized weights as integers: stored once, in the layout in which they are multiplied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from resparse.arrays import Array
from sparseml.export.graph import array_of, constant, nodes, producer, replace, store

SUFFIX = ".quantized"
"""What an integer weight is called after the weight's own name; a transposed one ends in SUFFIX + TRANSPOSED."""

TRANSPOSED = ".transposed"


@dataclass
class Grid:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear, as arrays; `axis` where there is one a row."""

    scale: Array
    zero_point: Array
    axis: int

    @classmethod
    def of(cls, node: ir.Node) -> Grid | None:
        """None unless both are constants."""
        scale, zero_point = constant(node.inputs[1]), constant(node.inputs[2])
        if scale is None or zero_point is None:
            return None
        return cls(scale, zero_point, node.attributes.get_int("axis", 1))

    def integers(self, values: Array) -> Array:
        """What QuantizeLinear computes: round half to even, zero point, saturation."""
        shape = [1] * values.ndim
        if self.scale.ndim:
            shape[self.axis] = -1
        scale, zero_point = self.scale.reshape(shape), self.zero_point.reshape(shape)
        limits = np.iinfo(zero_point.dtype)
        rounded = np.rint(values / scale) + zero_point.astype(np.float32)
        result: Array = np.clip(rounded, limits.min, limits.max).astype(zero_point.dtype)
        return result


def store_integers(model: ir.Model) -> None:
    """Replace every QuantizeLinear of a weight, or of rows looked up in a weight, by integers stored in the file."""
    for node in nodes(model, "QuantizeLinear"):
        grid = Grid.of(node)
        source = node.inputs[0]
        if grid is None or source is None:
            continue
        weight = constant(source)
        if weight is not None:
            replace(node, store(model, f"{source.name}{SUFFIX}", grid.integers(weight)))
            continue
        lookup = producer(source, "Gather")
        table = constant(lookup.inputs[0]) if lookup is not None else None
        if lookup is None or table is None or len(source.uses()) != 1:
            continue
        # Rounding is elementwise: the rows of a rounded table are the rounded rows.
        assert lookup.inputs[0] is not None
        lookup.replace_input_with(0, store(model, f"{lookup.inputs[0].name}{SUFFIX}", grid.integers(table)))
        source.dtype = integer_type(node)
        replace(node, source)


def transpose_stored(model: ir.Model) -> None:
    """Store transposed what is transposed before it is multiplied; runtimes then see a plain integer product."""
    for node in nodes(model, "Transpose"):
        scaled = producer(node.inputs[0], "DequantizeLinear")
        stored = constant(scaled.inputs[0]) if scaled is not None else None
        if scaled is None or stored is None or stored.ndim != 2 or list(_permutation(node)) != [1, 0]:
            continue
        assert scaled.inputs[0] is not None
        transposed = store(model, f"{scaled.inputs[0].name}{TRANSPOSED}", stored.T)
        axis = {"axis": 1 - scaled.attributes.get_int("axis", 1)} if _by_row(scaled) else {}
        moved = ir.node("DequantizeLinear", [transposed, *scaled.inputs[1:]], attributes=axis)
        moved.outputs[0].dtype = ir.DataType.FLOAT
        assert node.graph is not None
        node.graph.insert_before(node, moved)
        replace(node, moved.outputs[0])


def integer_type(node: ir.Node) -> ir.DataType:
    """What the integers of a QuantizeLinear or DequantizeLinear are: the type of its zero point."""
    return ir.DataType.from_numpy(array_of(node.inputs[2]).dtype)


def _by_row(node: ir.Node) -> bool:
    scale = constant(node.inputs[1])
    return scale is not None and scale.ndim > 0


def _permutation(node: ir.Node) -> list[int]:
    return list(node.attributes.get_ints("perm", [1, 0]))
