"""The form that DeepSparse 1.8 runs fast: integer products on unsigned bytes.

    QuantizeLinear → MatMulInteger (zero point of the weights: 128) → Add (int32 bias) → Cast → Mul (both scales)

Other forms of the same mathematics fall out of its fast path. It derives the scales of what lies between from
the last factor, which therefore must hold the two scales and nothing else.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

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
from sparseml.export.weights import TRANSPOSED, Grid, bias_grid


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
        last, bias = _with_bias(node)
        factor = right.inputs[0]
        if node.op_type == "Gemm":
            factor = store(model, f"{right.inputs[0].name}{TRANSPOSED}", array_of(right.inputs[0]).T)  # type: ignore[union-attr]
        points = left.inputs[2], right.inputs[2]
        whole = before(last, "MatMulInteger", left.inputs[0], factor, *points, dtype=ir.DataType.INT32)
        scale = np.asarray(grids[0].scale * grids[1].scale, np.float32)
        if bias is not None:
            scale, integers = bias_grid(array_of(bias), grids[0], grids[1])
            stored = store(model, f"{last.outputs[0].name}.bias", integers)
            whole = before(last, "Add", whole, stored, dtype=ir.DataType.INT32)
        number = before(last, "Cast", whole, to=int(ir.DataType.FLOAT))
        result = before(last, "Mul", number, store(model, f"{last.outputs[0].name}.scale", scale))
        result.shape = last.outputs[0].shape
        replace(last, result)


def _with_bias(node: ir.Node) -> tuple[ir.Node, ir.Value | None]:
    """The node that ends a Linear layer, and its bias if it has one."""
    if node.op_type == "Gemm":
        return node, node.inputs[2] if len(node.inputs) > 2 else None
    added = consumer(node.outputs[0], "Add")
    bias = other_input(added, node.outputs[0]) if added is not None else None
    values = constant(bias)
    return (added, bias) if added is not None and values is not None and values.ndim == 1 else (node, None)


def _is_linear(node: ir.Node) -> bool:
    """Whether a Gemm is x · Wᵀ + b."""
    get = node.attributes
    factors = get.get_float("alpha", 1.0), get.get_float("beta", 1.0)
    return factors == (1.0, 1.0) and get.get_int("transA", 0) == 0 and get.get_int("transB", 0) == 1
