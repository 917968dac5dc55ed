"""The forms in which a graph is written, by the runtime that is to run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import onnx_ir as ir

PORTABLE: Final = "portable"
DEEPSPARSE: Final = "deepsparse"

FORMS: Final[dict[str, str]] = {
    PORTABLE: PORTABLE,
    "onnxruntime": PORTABLE,
    "openvino": PORTABLE,
    DEEPSPARSE: DEEPSPARSE,
}
"""The form that each runtime runs fast, by the runtime's name."""

OPSETS: Final = {PORTABLE: 18, DEEPSPARSE: 14}
"""The operator set of each form, unless another is asked for."""


def give_form(model: ir.Model, form: str, opset: int | None = None) -> None:
    """Bring the exporter's graph into a form, in place.

    The portable form keeps QuantizeLinear and DequantizeLinear around products of stored integers, which
    ONNX Runtime and OpenVINO fuse into integer kernels; see `deepsparse` for the other.

    Args:
        model: as `onnx.to_onnx` gives it; quantized in all parts, in some, or in none.
        form: a value of FORMS.
        opset: ONNX operator set; by default the form's.

    Raises:
        ExportError: the form, or the operator set, cannot hold this graph.
    """
    from sparseml.export import deepsparse, graph, simplify, weights
    from sparseml.export import opset as opsets

    weights.store_integers(model)
    weights.transpose_stored(model)
    simplify.transpose_integers(model)
    simplify.order_gelu(model)
    if form == DEEPSPARSE:
        deepsparse.make_unsigned(model)
        deepsparse.multiply_integers(model)
    else:
        simplify.fold_score_scale(model)
        simplify.sum_residuals(model)
    opset = OPSETS[form] if opset is None else opset
    if opset < model.graph.opset_imports[""]:
        opsets.lower(model, opset)
    model.ir_version = opsets.ir_version(opset)
    graph.tidy(model)
