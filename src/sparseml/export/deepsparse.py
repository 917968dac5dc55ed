"""The form that DeepSparse 1.8 runs fast: integer products on unsigned bytes, in the operators of its time.

    QuantizeLinear → MatMulInteger (zero point of the weights: 128) → Add (int32 bias) → Cast → Mul (both scales)

Other forms of the same mathematics fall out of its fast path.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sparseml.export.graph import (
    Array,
    before,
    constant,
    consumer,
    nodes,
    other_input,
    producer,
    replace,
    store,
)
from sparseml.export.onnx import ExportError
from sparseml.export.weights import Grid, bias_grid

OPSET = 14
IR_VERSION = 7

# Operators whose definition at OPSET is the one of the exporter's operator set, or wider only in types.
_UNCHANGED = frozenset(
    "Add And Cast Clip Concat Constant ConstantOfShape CumSum DequantizeLinear Div Equal Erf Expand Flatten Gather "
    "GatherElements GatherND Gemm Greater GreaterOrEqual Identity Less LessOrEqual MatMul MatMulInteger Max Min Mul "
    "Neg Not Or Pow QuantizeLinear Range Reciprocal Relu Reshape Shape Sigmoid Slice Softmax Split Sqrt Squeeze Sub "
    "Sum Tanh Transpose Unsqueeze Where Cos Sin Abs ReduceMean ReduceSum ReduceMax ReduceMin Sign Log Floor Ceil Mod "
    "Tile LayerNormalization TopK Trilu".split()
)


def make_unsigned(model: ir.Model) -> None:
    """Shift every int8 tensor of the file and its zero point by 128: the same values, as uint8."""
    for value in model.graph.initializers.values():
        if value.dtype == ir.DataType.INT8:
            shifted = (constant_of(value).astype(np.int16) + 128).astype(np.uint8)
            value.const_value = ir.tensor(shifted, name=value.name)
            value.dtype = ir.DataType.UINT8
    for node in model.graph:
        for value in node.outputs:
            if value.dtype == ir.DataType.INT8:
                value.dtype = ir.DataType.UINT8


def multiply_integers(model: ir.Model) -> None:
    """Products of dequantized tensors, with their bias, as products of integers."""
    for node in nodes(model, "MatMul", "Gemm"):
        scaled = [producer(value, "DequantizeLinear") for value in node.inputs[:2]]
        left, right = scaled
        if left is None or right is None:
            continue
        grids = Grid.of(left), Grid.of(right)
        if grids[0] is None or grids[1] is None:
            continue
        _multiply(model, node, left, right, (grids[0], grids[1]))


def _multiply(
    model: ir.Model, node: ir.Node, left: ir.Node, right: ir.Node, grids: tuple[Grid, Grid]
) -> None:
    last = node
    bias: Array | None = None
    name = ""
    factor = right.inputs[0]
    assert left.inputs[0] is not None and factor is not None
    if node.op_type == "Gemm":
        if _is_plain(node):
            return
        factor = store(model, f"{factor.name}.transposed", constant_of(factor).T)
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        name = str(node.inputs[2].name) if bias is not None and node.inputs[2] is not None else ""
    else:
        added = consumer(node.outputs[0], "Add")
        value = other_input(added, node.outputs[0]) if added is not None else None
        values = constant(value)
        if added is not None and value is not None and values is not None and values.ndim == 1:
            last, bias, name = added, values, str(value.name)
    product = before(
        last,
        "MatMulInteger",
        left.inputs[0],
        factor,
        _present(left.inputs[2]),
        _present(right.inputs[2]),
        dtype=ir.DataType.INT32,
    )
    scale = np.asarray(grids[0].scale * grids[1].scale, np.float32)
    if bias is not None:
        scale, integers = bias_grid(bias, *grids)
        product = before(
            last, "Add", product, store(model, f"{name}.quantized", integers), dtype=ir.DataType.INT32
        )
    number = before(last, "Cast", product, to=int(ir.DataType.FLOAT))
    label = (
        f"{left.inputs[1].name if left.inputs[1] else ''}*{right.inputs[1].name if right.inputs[1] else ''}"
    )
    result = before(last, "Mul", number, store(model, label, scale))
    result.shape = last.outputs[0].shape
    replace(last, result)


def lower_opset(model: ir.Model) -> None:
    """Write in the operator set of DeepSparse's time what the exporter wrote in a later one.

    Raises:
        ExportError: the graph needs an operator that did not exist yet.
    """
    unknown = sorted({node.op_type for node in model.graph} - _UNCHANGED)
    if unknown:
        raise ExportError(
            f"The form for DeepSparse has no {', '.join(unknown)}: this architecture is newer than DeepSparse 1.8. "
            "Export it with --runtime onnxruntime or openvino."
        )
    for node in nodes(model, "LayerNormalization"):
        _spell_out_norm(model, node)
    for node in nodes(model, "ReduceMean", "ReduceMax", "ReduceMin"):
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is not None:
            attributes = {
                "axes": axes.reshape(-1).tolist(),
                "keepdims": node.attributes.get_int("keepdims", 1),
            }
            assert node.inputs[0] is not None
            replace(node, before(node, node.op_type, node.inputs[0], **attributes))
    for node in nodes(model, "Shape"):
        _spell_out_shape(model, node)
    for node in nodes(model, "Split"):
        node.attributes.pop("num_outputs", None)
    model.graph.opset_imports[""] = OPSET
    model.ir_version = IR_VERSION


def _spell_out_norm(model: ir.Model, node: ir.Node) -> None:
    """Layer normalization in the operators, and the order, that PyTorch's exporter wrote before there was one."""
    x, gain, *shift = node.inputs
    assert x is not None and gain is not None
    epsilon = np.float32(node.attributes.get_float("epsilon", 1e-5))
    two = store(model, "two", np.array(2.0, np.float32))
    centred = before(node, "Sub", x, before(node, "ReduceMean", x, axes=[-1], keepdims=1))
    variance = before(node, "ReduceMean", before(node, "Pow", centred, two), axes=[-1], keepdims=1)
    shifted = before(node, "Add", variance, store(model, f"epsilon_{epsilon:g}", np.array(epsilon)))
    result = before(node, "Mul", before(node, "Div", centred, before(node, "Sqrt", shifted)), gain)
    if shift and shift[0] is not None:
        result = before(node, "Add", result, shift[0])
    replace(node, result)


def _spell_out_shape(model: ir.Model, node: ir.Node) -> None:
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
    if not start and end is None:
        return
    assert node.inputs[0] is not None
    whole = before(node, "Shape", node.inputs[0], dtype=ir.DataType.INT64)
    limits = [np.array([start]), np.array([np.iinfo(np.int64).max if end is None else end])]
    stored = [store(model, f"dimension_{int(limit[0])}", limit.astype(np.int64)) for limit in limits]
    replace(node, before(node, "Slice", whole, *stored, dtype=ir.DataType.INT64))


def _is_plain(node: ir.Node) -> bool:
    """Whether a Gemm is something else than x · Wᵀ + b."""
    get = node.attributes
    factors = get.get_float("alpha", 1.0), get.get_float("beta", 1.0)
    return factors != (1.0, 1.0) or get.get_int("transA", 0) != 0 or get.get_int("transB", 0) != 1


def constant_of(value: ir.Value) -> Array:
    """An initializer's array."""
    array = constant(value)
    assert array is not None
    return array


def _present(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
