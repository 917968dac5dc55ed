"""Graph passes, in place: integer weights, patterns that runtimes fuse, DeepSparse's integer products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from resparse.arrays import Array
from sparseml.export.graph import (
    array_of,
    constant,
    consumer,
    insert_before,
    nodes,
    other_input,
    producer,
    replace,
    store,
)

# Appended to a weight's name; a transposed integer weight ends in SUFFIX + TRANSPOSED.
SUFFIX = ".quantized"
TRANSPOSED = ".transposed"
ZERO_POINT = ".zero_point"


@dataclass
class QuantParams:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear; `axis` counts where they are per channel."""

    scale: Array
    zero_point: Array
    axis: int

    @classmethod
    def of(cls, node: ir.Node) -> QuantParams | None:
        """None unless both are constants."""
        scale, zero_point = constant(node.inputs[1]), constant(node.inputs[2])
        if scale is None or zero_point is None:
            return None
        return cls(scale, zero_point, node.attributes.get_int("axis", 1))

    def integers(self, values: Array) -> Array:
        """Quantize as QuantizeLinear does: round half to even, add the zero point, saturate."""
        shape = [1] * values.ndim
        if self.scale.ndim:
            shape[self.axis] = -1
        scale, zero_point = self.scale.reshape(shape), self.zero_point.reshape(shape)
        limits = np.iinfo(zero_point.dtype)
        rounded = np.rint(values / scale) + zero_point.astype(np.float32)
        result: Array = np.clip(rounded, limits.min, limits.max).astype(zero_point.dtype)
        return result


def store_integers(model: ir.Model) -> None:
    """Replace every QuantizeLinear of a weight, or of rows gathered from one, by stored integers."""
    for node in nodes(model, "QuantizeLinear"):
        params = QuantParams.of(node)
        source = node.inputs[0]
        if params is None or source is None:
            continue
        weight = constant(source)
        if weight is not None:
            replace(node, store(model, f"{source.name}{SUFFIX}", params.integers(weight)))
            continue
        source, bounds = _unclipped(source)
        lookup = producer(source, "Gather")
        table = constant(lookup.inputs[0]) if lookup is not None else None
        if lookup is None or table is None or len(source.uses()) != 1:
            continue
        table = np.clip(table, *bounds)
        # Clipping and quantization are elementwise, so they commute with Gather.
        assert lookup.inputs[0] is not None
        lookup.replace_input_with(0, store(model, f"{lookup.inputs[0].name}{SUFFIX}", params.integers(table)))
        source.dtype = integer_type(node)
        replace(node, source)


def _unclipped(value: ir.Value) -> tuple[ir.Value, tuple[Array | float, Array | float]]:
    """A value before a Clip that only it uses, and its bounds; infinite where there is no Clip."""
    clip = producer(value, "Clip")
    low, high = (constant(bound) for bound in clip.inputs[1:3]) if clip is not None else (None, None)
    if clip is None or clip.inputs[0] is None or low is None or high is None or len(value.uses()) != 1:
        return value, (-np.inf, np.inf)
    return clip.inputs[0], (low, high)


def transpose_stored(model: ir.Model) -> None:
    """Transpose stored weights that are transposed before a product; runtimes then see a plain integer product."""
    for node in nodes(model, "Transpose"):
        scaled = producer(node.inputs[0], "DequantizeLinear")
        stored = constant(scaled.inputs[0]) if scaled is not None else None
        if scaled is None or stored is None or stored.ndim != 2:
            continue
        if list(node.attributes.get_ints("perm", [1, 0])) != [1, 0]:
            continue
        assert scaled.inputs[0] is not None
        transposed = store(model, f"{scaled.inputs[0].name}{TRANSPOSED}", stored.T)
        scale = constant(scaled.inputs[1])
        per_channel = scale is not None and scale.ndim > 0
        axis: dict[str, Any] = {"axis": 1 - scaled.attributes.get_int("axis", 1)} if per_channel else {}
        replace(node, insert_before(node, "DequantizeLinear", transposed, *scaled.inputs[1:], **axis))


def integer_type(node: ir.Node) -> ir.DataType:
    """The integer type of a QuantizeLinear or DequantizeLinear: that of its zero point."""
    return ir.DataType.from_numpy(array_of(node.inputs[2]).dtype)


def order_gelu(model: ir.Model) -> None:
    """x · (½ · (1 + erf)) as (x · (1 + erf)) · ½: the order in which runtimes recognize and fuse GELU."""
    for erf in nodes(model, "Erf"):
        shifted = consumer(erf.outputs[0], "Add")
        halved = consumer(shifted.outputs[0], "Mul") if shifted is not None else None
        last = consumer(halved.outputs[0], "Mul") if halved is not None else None
        if shifted is None or halved is None or last is None:
            continue
        half = other_input(halved, shifted.outputs[0])
        factor = constant(half)
        if factor is None or factor.size != 1 or float(factor.reshape(())) != 0.5:
            continue
        x = other_input(last, halved.outputs[0])
        # The first product now needs x, which may be computed after it.
        product = insert_before(last, "Mul", x, shifted.outputs[0])
        replace(last, insert_before(last, "Mul", product, half))


def transpose_integers(model: ir.Model) -> None:
    """Move transposes before dequantization: less memory traffic, and products read dequantized tensors directly."""
    for node in nodes(model, "Transpose"):
        scaled = producer(node.inputs[0], "DequantizeLinear")
        scale = constant(scaled.inputs[1]) if scaled is not None else None
        if scaled is None or scale is None or scale.ndim or len(scaled.outputs[0].uses()) != 1:
            continue
        perm = list(node.attributes["perm"].as_ints())
        moved = insert_before(node, "Transpose", scaled.inputs[0], dtype=integer_type(scaled), perm=perm)
        result = insert_before(node, "DequantizeLinear", moved, *scaled.inputs[1:])
        result.shape = node.outputs[0].shape
        replace(node, result)


def fold_score_scale(model: ir.Model) -> None:
    """Fold the scaling of attention scores into the scale of the dequantized queries."""
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
    """Merge Adds before a LayerNormalization into a Sum: ONNX Runtime's fusion of the two is several times slower."""
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
        total = insert_before(outer, "Sum", *terms)
        total.shape = outer.outputs[0].shape
        replace(outer, total)


def own_zero_points(model: ir.Model) -> None:
    """Give each stored weight a zero point of its own: ONNX Runtime loads no weights that share one where it is asked
    for exact products (`session.x64quantprecision`), because it then makes another zero point for each, of one name.
    """
    for node in nodes(model, "DequantizeLinear"):
        weight, zero_point = node.inputs[0], constant(node.inputs[2])
        if weight is not None and zero_point is not None and constant(weight) is not None:
            node.replace_input_with(2, store(model, f"{weight.name}{ZERO_POINT}", zero_point))


def make_unsigned(model: ir.Model) -> None:
    """Convert every int8 tensor, zero points included, to uint8 by adding 128: the same real values."""
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

    DeepSparse 1.8 executes other forms slowly. It derives the scales of intermediate tensors from that factor, which
    must therefore be the product of the two scales and nothing else. SparseML adds the bias before the Cast, as int32;
    DeepSparse is as fast with a float bias, and rounding the bias changes the label of one row in a hundred.
    """
    for node in nodes(model, "MatMul", "Gemm"):
        left, right = (producer(value, "DequantizeLinear") for value in node.inputs[:2])
        if left is None or right is None or (node.op_type == "Gemm" and not _is_linear(node)):
            continue
        params = QuantParams.of(left), QuantParams.of(right)
        if params[0] is None or params[1] is None:
            continue
        factor = right.inputs[0]
        assert factor is not None, "it has a zero point"
        if node.op_type == "Gemm":
            factor = store(model, f"{factor.name}{TRANSPOSED}", array_of(factor).T)
        zero_points = left.inputs[2], right.inputs[2]
        whole = insert_before(
            node, "MatMulInteger", left.inputs[0], factor, *zero_points, dtype=ir.DataType.INT32
        )
        number = insert_before(node, "Cast", whole, to=int(ir.DataType.FLOAT))
        scale = np.asarray(params[0].scale * params[1].scale, np.float32)
        result = insert_before(node, "Mul", number, store(model, f"{node.outputs[0].name}.scale", scale))
        if len(node.inputs) > 2:
            result = insert_before(node, "Add", result, node.inputs[2])
        result.shape = node.outputs[0].shape
        replace(node, result)


def _is_linear(node: ir.Node) -> bool:
    """Whether a Gemm is x · Wᵀ + b."""
    attributes = node.attributes
    unscaled = attributes.get_float("alpha", 1.0) == attributes.get_float("beta", 1.0) == 1.0
    return unscaled and attributes.get_int("transA", 0) == 0 and attributes.get_int("transB", 0) == 1
