"""The format in which a graph is written for a runtime: which passes are applied, and in which operator set."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from sparseml.export import passes
from sparseml.export.graph import constant, insert_before, nodes, remove_unused, replace, store
from sparseml.export.trace import ExportError

PORTABLE: Final = "portable"
DEEPSPARSE: Final = "deepsparse"

# The format that a runtime executes fast, by the runtime's name; and the default operator set of each format.
FORMATS: Final = dict.fromkeys((PORTABLE, "onnxruntime", "openvino"), PORTABLE) | {DEEPSPARSE: DEEPSPARSE}
OPSETS: Final = {PORTABLE: 18, DEEPSPARSE: 14}


def apply_format(model: ir.Model, format: str, opset: int | None = None) -> None:
    """Rewrite a traced graph into a format of FORMATS, in place; an ExportError where that is impossible.

    The portable format keeps QuantizeLinear and DequantizeLinear around products of stored integers, which ONNX
    Runtime and OpenVINO fuse into integer kernels; for DeepSparse's see `passes.multiply_integers`.
    """
    passes.store_integers(model)
    passes.transpose_stored(model)
    passes.transpose_integers(model)
    passes.order_gelu(model)
    if format == DEEPSPARSE:
        passes.make_unsigned(model)
        passes.multiply_integers(model)
    else:
        passes.fold_score_scale(model)
        passes.sum_residuals(model)
        passes.own_zero_points(model)
    opset = OPSETS[format] if opset is None else opset
    if opset < model.graph.opset_imports[""]:
        lower_opset(model, opset)
    model.ir_version = _IR_VERSIONS.get(opset, max(_IR_VERSIONS.values()))
    remove_unused(model)


# The IR version released with each operator set: older readers refuse a newer one.
_IR_VERSIONS: Final = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
# Operators whose later versions only accept more types, or add an attribute that is not used here.
_ELEMENTWISE: Final = frozenset(
    {"Add", "Div", "Equal", "GreaterOrEqual", "LessOrEqual", "Mul", "Pow", "Relu", "Sub", "Where"}
)
_LAYOUT: Final = frozenset({"CumSum", "Identity", "Reshape", "Trilu"})
_REWRITTEN: Final = frozenset(
    {"LayerNormalization", "ReduceMax", "ReduceMean", "ReduceMin", "Shape", "Split"}
)


def lower_opset(model: ir.Model, opset: int) -> None:
    """Convert to a lower operator set, from 13 on: the first whose QuantizeLinear has an axis; or an ExportError."""
    unsupported = sorted(
        kind for kind in {node.op_type for node in model.graph} if not _can_lower(model, kind, opset)
    )
    if unsupported:
        raise ExportError(
            f"ONNX operator set {opset} has no {', '.join(unsupported)} as this architecture needs it. Export it with "
            f"--opset {model.opset_imports['']} and without --runtime deepsparse."
        )
    for node in nodes(model, "LayerNormalization"):
        _decompose_layer_norm(model, node)
    for node in nodes(model, "ReduceMean", "ReduceMax", "ReduceMin"):
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is not None and node.inputs[0] is not None:
            kept = node.attributes.get_int("keepdims", 1)
            replace(
                node,
                insert_before(
                    node, node.op_type, node.inputs[0], axes=axes.reshape(-1).tolist(), keepdims=kept
                ),
            )
    for node in nodes(model, "Shape"):
        _decompose_shape(model, node)
    for node in nodes(model, "Split"):
        node.attributes.pop("num_outputs", None)
    model.graph.opset_imports[""] = opset


def _can_lower(model: ir.Model, kind: str, opset: int) -> bool:
    from onnx import defs

    if kind in _REWRITTEN | _ELEMENTWISE | _LAYOUT:
        return True
    try:
        then = defs.get_schema(kind, opset)
    except defs.SchemaError:
        return False
    return bool(then.since_version == defs.get_schema(kind, model.opset_imports[""]).since_version)


def _decompose_layer_norm(model: ir.Model, node: ir.Node) -> None:
    """Layer normalization by the operators, in the order, that PyTorch exported before ONNX had LayerNormalization."""
    x, gain, *shift = node.inputs
    assert x is not None and gain is not None
    epsilon = np.float32(node.attributes.get_float("epsilon", 1e-5))
    two = store(model, "two", np.array(2.0, np.float32))
    centred = insert_before(node, "Sub", x, insert_before(node, "ReduceMean", x, axes=[-1], keepdims=1))
    variance = insert_before(
        node, "ReduceMean", insert_before(node, "Pow", centred, two), axes=[-1], keepdims=1
    )
    shifted = insert_before(node, "Add", variance, store(model, f"epsilon_{epsilon:g}", np.array(epsilon)))
    result = insert_before(
        node, "Mul", insert_before(node, "Div", centred, insert_before(node, "Sqrt", shifted)), gain
    )
    if shift and shift[0] is not None:
        result = insert_before(node, "Add", result, shift[0])
    replace(node, result)


def _decompose_shape(model: ir.Model, node: ir.Node) -> None:
    """A range of the dimensions as Shape and Slice."""
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
    if not start and end is None:
        node.attributes.pop("start", None)
        return
    assert node.inputs[0] is not None
    whole = insert_before(node, "Shape", node.inputs[0], dtype=ir.DataType.INT64)
    limits = (start, np.iinfo(np.int64).max if end is None else end)
    stored = [store(model, f"dimension_{limit}", np.array([limit], np.int64)) for limit in limits]
    replace(node, insert_before(node, "Slice", whole, *stored, dtype=ir.DataType.INT64))
