"""The format in which a graph is written, by the runtime that is to run it: which passes, and which operator set."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from sparseml.export import passes
from sparseml.export.graph import before, constant, nodes, replace, store, tidy
from sparseml.export.trace import ExportError

PORTABLE: Final = "portable"
DEEPSPARSE: Final = "deepsparse"

FORMATS: Final[dict[str, str]] = {
    PORTABLE: PORTABLE,
    "onnxruntime": PORTABLE,
    "openvino": PORTABLE,
    DEEPSPARSE: DEEPSPARSE,
}
"""The format that each runtime runs fast, by the runtime's name."""

OPSETS: Final = {PORTABLE: 18, DEEPSPARSE: 14}
"""The operator set of each format, unless another is asked for."""


def apply_format(model: ir.Model, format: str, opset: int | None = None) -> None:
    """Rewrite the traced graph into a format, in place.

    The portable format keeps QuantizeLinear and DequantizeLinear around products of stored integers, which
    ONNX Runtime and OpenVINO fuse into integer kernels; for DeepSparse's see `passes.multiply_integers`.

    Args:
        model: as `trace.to_onnx` returns it; quantized wholly, partly, or not at all.
        format: a value of FORMATS.
        opset: ONNX operator set; by default the format's.

    Raises:
        ExportError: the graph cannot be written in this format or operator set.
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
    opset = OPSETS[format] if opset is None else opset
    if opset < model.graph.opset_imports[""]:
        lower_opset(model, opset)
    model.ir_version = ir_version(opset)
    tidy(model)


LOWEST: Final = 13
"""The first operator set whose QuantizeLinear knows an axis, and whose Softmax is today's."""

_IR_VERSIONS: Final = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
"""The IR version that came with each operator set: older readers refuse a newer one."""

_WIDER: Final = frozenset(
    {
        "Add",
        "CumSum",
        "Div",
        "GreaterOrEqual",
        "Identity",
        "LessOrEqual",
        "Mul",
        "Pow",
        "Relu",
        "Reshape",
        "Sub",
    }
    | {"Trilu", "Where", "Equal"}
)
"""Operators whose later versions only take more types, or have an attribute that nobody here sets."""

_REWRITTEN: Final = frozenset(
    {"LayerNormalization", "ReduceMax", "ReduceMean", "ReduceMin", "Shape", "Split"}
)


def ir_version(opset: int) -> int:
    """The IR version to declare beside an operator set."""
    return _IR_VERSIONS.get(opset, max(_IR_VERSIONS.values()))


def lower_opset(model: ir.Model, opset: int) -> None:
    """Write a graph in an operator set from LOWEST on, below the exporter's.

    Raises:
        ExportError: the graph needs an operator that did not exist yet, or was another one.
    """
    lost = sorted(
        kind for kind in {node.op_type for node in model.graph} if not _can_lower(model, kind, opset)
    )
    if lost:
        raise ExportError(
            f"ONNX operator set {opset} has no {', '.join(lost)} as this architecture needs it. Export it with "
            f"--opset {model.opset_imports['']} and without --runtime deepsparse."
        )
    for node in nodes(model, "LayerNormalization"):
        _spell_out_norm(model, node)
    for node in nodes(model, "ReduceMean", "ReduceMax", "ReduceMin"):
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is not None and node.inputs[0] is not None:
            kept = node.attributes.get_int("keepdims", 1)
            replace(
                node,
                before(node, node.op_type, node.inputs[0], axes=axes.reshape(-1).tolist(), keepdims=kept),
            )
    for node in nodes(model, "Shape"):
        _spell_out_shape(model, node)
    for node in nodes(model, "Split"):
        node.attributes.pop("num_outputs", None)
    model.graph.opset_imports[""] = opset


def _can_lower(model: ir.Model, kind: str, opset: int) -> bool:
    from onnx import defs

    if kind in _REWRITTEN | _WIDER:
        return True
    try:
        then = defs.get_schema(kind, opset)
    except defs.SchemaError:
        return False
    return bool(then.since_version == defs.get_schema(kind, model.opset_imports[""]).since_version)


def _spell_out_norm(model: ir.Model, node: ir.Node) -> None:
    """Layer normalization in the operators, and the order, that PyTorch wrote before ONNX had one."""
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
    """Some of the dimensions: all of them, then a slice."""
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
    if not start and end is None:
        node.attributes.pop("start", None)
        return
    assert node.inputs[0] is not None
    whole = before(node, "Shape", node.inputs[0], dtype=ir.DataType.INT64)
    limits = (start, np.iinfo(np.int64).max if end is None else end)
    stored = [store(model, f"dimension_{limit}", np.array([limit], np.int64)) for limit in limits]
    replace(node, before(node, "Slice", whole, *stored, dtype=ir.DataType.INT64))
