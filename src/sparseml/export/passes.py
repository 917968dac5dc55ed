"""Passes that rewrite the traced graph in place: integer weights, fusable patterns, DeepSparse's integer products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from resparse.arrays import Array
from sparseml.export.graph import (
    array_of,
    before,
    constant,
    consumer,
    nodes,
    other_input,
    producer,
    replace,
    store,
)

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


def order_gelu(model: ir.Model) -> None:
    """x · (½ · (1 + erf)) as (x · (1 + erf)) · ½: the order in which runtimes know GELU (and fuse it)."""
    for erf in nodes(model, "Erf"):
        shifted = consumer(erf.outputs[0], "Add")
        halved = consumer(shifted.outputs[0], "Mul") if shifted is not None else None
        last = consumer(halved.outputs[0], "Mul") if halved is not None else None
        if shifted is None or halved is None or last is None:
            continue
        half = other_input(halved, shifted.outputs[0])
        if not _is_scalar(half, 0.5):
            continue
        x = other_input(last, halved.outputs[0])
        # The first product now needs x, which may be computed after it.
        product = before(last, "Mul", x, shifted.outputs[0])
        replace(last, before(last, "Mul", product, half))


def transpose_integers(model: ir.Model) -> None:
    """Transpose before dequantizing, not after it: bytes are moved, and products see dequantized tensors at once."""
    for node in nodes(model, "Transpose"):
        scaled = producer(node.inputs[0], "DequantizeLinear")
        scale = constant(scaled.inputs[1]) if scaled is not None else None
        if scaled is None or scale is None or scale.ndim or len(scaled.outputs[0].uses()) != 1:
            continue
        perm = list(node.attributes["perm"].as_ints())
        moved = before(node, "Transpose", scaled.inputs[0], dtype=integer_type(scaled), perm=perm)
        result = before(node, "DequantizeLinear", moved, *scaled.inputs[1:])
        result.shape = node.outputs[0].shape
        replace(node, result)


def fold_score_scale(model: ir.Model) -> None:
    """The factor of attention's scores goes into the scale of the dequantized queries: one pass less over them."""
    for node in nodes(model, "Mul"):
        product = producer(node.inputs[0], "MatMul")
        factor = constant(node.inputs[1])
        if product is None or factor is None or factor.size != 1 or len(product.outputs[0].uses()) != 1:
            continue
        query = producer(product.inputs[0], "DequantizeLinear")
        scale = constant(query.inputs[1]) if query is not None else None
        if query is None or scale is None or scale.ndim or len(query.outputs[0].uses()) != 1:
            continue
        assert query.inputs[1] is not None
        name = f"{query.inputs[1].name}.times_score_scale"
        query.replace_input_with(1, store(model, name, (scale * factor.reshape(())).astype(np.float32)))
        replace(node, product.outputs[0])


def sum_residuals(model: ir.Model) -> None:
    """Additions before a layer normalization as one Sum.

    ONNX Runtime turns Add and LayerNormalization into SkipLayerNormalization, which takes several times as long
    on CPUs as the two; a Sum it leaves alone.
    """
    for norm in nodes(model, "LayerNormalization"):
        outer = producer(norm.inputs[0], "Add")
        if outer is None:
            continue
        terms: list[ir.Value] = []
        for value in outer.inputs:
            assert value is not None
            inner = producer(value, "Add")
            if inner is not None and consumer(value, "Add") is not None:
                terms += [term for term in inner.inputs if term is not None]
            else:
                terms.append(value)
        total = before(outer, "Sum", *terms)
        total.shape = outer.outputs[0].shape
        replace(outer, total)


def _is_scalar(value: ir.Value, wanted: float) -> bool:
    found = constant(value)
    return found is not None and found.size == 1 and float(found.reshape(())) == wanted


def make_unsigned(model: ir.Model) -> None:
    """Shift every int8 tensor of the file, zero points among them, by 128: the same values, as uint8."""
    for value in model.graph.initializers.values():
        if value.dtype == ir.DataType.INT8:
            shifted = (array_of(value).astype(np.int16) + 128).astype(np.uint8)
            value.const_value = ir.tensor(shifted, name=value.name)
            value.dtype = ir.DataType.UINT8
    for node in model.graph:
        for value in node.outputs:
            if value.dtype == ir.DataType.INT8:
                value.dtype = ir.DataType.UINT8


def multiply_integers(model: ir.Model) -> None:
    """Rewrite products of dequantized tensors, with their bias, into the integer products of DeepSparse's fast path.

        QuantizeLinear → MatMulInteger (zero point of the weights: 128) → Cast → Mul (both scales) → Add (bias)

    DeepSparse 1.8 runs other forms of the same computation slowly. It derives the scales of the tensors in between from
    that factor, which therefore must hold the two scales and nothing else. SparseML adds the bias before the Cast, as
    int32; DeepSparse is as fast with a float bias, and a rounded one changes enough of the roundings that follow it to
    change the label of one row in a hundred.
    """
    for node in nodes(model, "MatMul", "Gemm"):
        left, right = (producer(value, "DequantizeLinear") for value in node.inputs[:2])
        if left is None or right is None or (node.op_type == "Gemm" and not _is_linear(node)):
            continue
        grids = Grid.of(left), Grid.of(right)
        if grids[0] is None or grids[1] is None:
            continue
        factor = right.inputs[0]
        assert factor is not None, "it has a grid"
        if node.op_type == "Gemm":
            factor = store(model, f"{factor.name}{TRANSPOSED}", array_of(factor).T)
        points = left.inputs[2], right.inputs[2]
        whole = before(node, "MatMulInteger", left.inputs[0], factor, *points, dtype=ir.DataType.INT32)
        number = before(node, "Cast", whole, to=int(ir.DataType.FLOAT))
        scale = np.asarray(grids[0].scale * grids[1].scale, np.float32)
        result = before(node, "Mul", number, store(model, f"{node.outputs[0].name}.scale", scale))
        if len(node.inputs) > 2:
            result = before(node, "Add", result, node.inputs[2])
        result.shape = node.outputs[0].shape
        replace(node, result)


def _is_linear(node: ir.Node) -> bool:
    """Whether a Gemm is x · Wᵀ + b."""
    get = node.attributes
    factors = get.get_float("alpha", 1.0), get.get_float("beta", 1.0)
    return factors == (1.0, 1.0) and get.get_int("transA", 0) == 0 and get.get_int("transB", 0) == 1
