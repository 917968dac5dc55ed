"""The form that DeepSparse 1.8 runs fast: integer products on unsigned bytes.

    QuantizeLinear → MatMulInteger (zero point of the weights: 128) → Cast → Mul (both scales) → Add (bias)

Other forms of the same mathematics fall out of its fast path. It derives the scales of what lies between from
that factor, which therefore must hold the two scales and nothing else. SparseML adds the bias before the Cast, as
int32; DeepSparse is as fast on a bias in float, and a rounded one tips enough of the roundings that follow it to
change the label of one row in a hundred.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sparseml.export.graph import (
    array_of,
    before,
    nodes,
    producer,
    replace,
    store,
)
from sparseml.export.weights import TRANSPOSED, Grid


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
    """Products of dequantized tensors, with their bias, as products of integers."""
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
