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

_PORTABLE_IR_VERSION = 8


def give_form(model: ir.Model, form: str) -> None:
    """Bring the exporter's graph into a form, in place.

    The portable form keeps QuantizeLinear and DequantizeLinear around products of stored integers, which
    ONNX Runtime and OpenVINO fuse into integer kernels; see `deepsparse` for the other.

    Args:
        model: as `onnx.to_onnx` gives it; quantized in all parts, in some, or in none.
        form: a value of FORMS.

    Raises:
        ExportError: the form cannot hold this graph.
    """
    from sparseml.export import deepsparse, graph, simplify, weights

    weights.store_integers(model)
    weights.transpose_stored(model)
    simplify.order_gelu(model)
    if form == DEEPSPARSE:
        deepsparse.make_unsigned(model)
        deepsparse.multiply_integers(model)
        deepsparse.lower_opset(model)
    else:
        simplify.fold_score_scale(model)
        simplify.sum_residuals(model)
        simplify.quantize_gemm_bias(model)
        model.ir_version = _PORTABLE_IR_VERSION
    graph.tidy(model)
