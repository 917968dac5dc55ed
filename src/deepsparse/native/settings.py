"""What made a graph such that the native engine refuses it: the field of a recipe, or the option of a quantizer.

Fields are those of the QuantizationModifier. Options are arguments of `onnxruntime.quantization`, which optimum passes
on from its QuantizationConfig.
"""

from __future__ import annotations

from typing import Final

WEIGHTS: Final = (
    "recipe: `weight_bits`, `scheme.weights` of the QuantizationModifier; "
    "ONNX Runtime: `weight_type`, `per_channel`, `WeightSymmetric`"
)
INPUTS: Final = (
    "recipe: `activation_bits`, `scheme.input_activations` of the QuantizationModifier; "
    "ONNX Runtime: `activation_type`"
)
OUTPUTS: Final = (
    "recipe: `quantize_linear_activations`, `scheme.output_activations` of the QuantizationModifier; "
    "ONNX Runtime: `op_types_to_quantize`"
)
EMBEDDINGS: Final = (
    "recipe: `quantize_embeddings` of the QuantizationModifier; "
    "ONNX Runtime: `Gather` in `op_types_to_quantize`, `per_channel`"
)
ATTENTION: Final = (
    "recipe: `exclude_module_types: [QATMatMul]` of the QuantizationModifier leaves attention in float; "
    "ONNX Runtime: `nodes_to_exclude`"
)
RANGES: Final = (
    "recipe: `num_calibration_steps`, `disable_quantization_observer_epoch` of the QuantizationModifier; "
    "ONNX Runtime: the calibration data, whose attention masks must not reach -inf"
)
PRECISION: Final = "the export's precision: float32 is wanted, with or without quantization"
