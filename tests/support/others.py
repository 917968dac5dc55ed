"""Models as others quantize them: by onnxruntime.quantization, called as users and optimum call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from support.encoders import VOCABULARY
from support.reference import exact_file

_OPTIMUM = {"op_types_to_quantize": "QDQ", "activation_type": "QUInt8", "weight_type": "QInt8"}

WAYS: Final[dict[str, dict[str, Any]]] = {
    "static": {"activation_type": "QUInt8", "weight_type": "QInt8"},
    "static, int8": {},
    "static, by channel": {"activation_type": "QUInt8", "per_channel": True},
    "static, symmetric": {"extra_options": {"ActivationSymmetric": True}},
    "static, 7 bits": {"activation_type": "QUInt8", "weight_type": "QUInt8", "reduce_range": True},
    "static, weights around another zero": {
        "activation_type": "QUInt8",
        "weight_type": "QUInt8",
        "extra_options": {"WeightSymmetric": False},
    },
    "static, MatMul and Gemm": {"activation_type": "QUInt8", "op_types_to_quantize": ["MatMul", "Gemm"]},
    "static, a pair for each reader": {
        "activation_type": "QUInt8",
        "extra_options": {"DedicatedQDQPair": True},
    },
    "static, operators of integers": {"activation_type": "QUInt8", "quant_format": "QOperator"},
    "optimum, static": _OPTIMUM,
    "optimum, static by channel": {**_OPTIMUM, "per_channel": True},
    "optimum, static for AVX2": {**_OPTIMUM, "weight_type": "QUInt8", "per_channel": True},
    "optimum, dynamic": {"dynamic": True, "weight_type": "QInt8"},
    "optimum, dynamic by channel": {"dynamic": True, "weight_type": "QInt8", "per_channel": True},
}
"""By name: the arguments of `quantize_static`, or of `quantize_dynamic`.

Optimum (2.1: optimum/onnxruntime/configuration.py, quantization.py) quantizes the operators of ONNX Runtime's QDQ
registry alone, which lacks sums, products and softmax; and dynamically also products without constants.
"""


def quantize(source: Path, path: Path, way: str) -> None:
    """Quantize a model of `exports` in one of the ways."""
    from onnxruntime import quantization

    settings = dict(WAYS[way])
    if settings.pop("dynamic", False):
        settings["weight_type"] = getattr(quantization.QuantType, settings["weight_type"])
        extra = {"MatMulConstBOnly": False}
        quantization.quantize_dynamic(source, path, extra_options=extra, **settings)
    else:
        quantize_static(source, path, **settings)


def quantize_static(source: Path, path: Path, **settings: Any) -> None:
    """`quantize_static`, calibrated with a few rows of random tokens without padding.

    Args:
        source: the model.
        path: where the quantized one goes.
        settings: its arguments; types and formats by name. `op_types_to_quantize` may be "QDQ": as optimum has it.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.registry import QDQRegistry

    for name, kind in (
        ("activation_type", quantization.QuantType),
        ("weight_type", quantization.QuantType),
        ("quant_format", quantization.QuantFormat),
    ):
        if name in settings:
            settings[name] = getattr(kind, settings[name])
    if settings.get("op_types_to_quantize") == "QDQ":
        settings["op_types_to_quantize"] = list(QDQRegistry)

    class Rows(quantization.CalibrationDataReader):
        """Batches, one at a time."""

        def __init__(self) -> None:
            self._left = [feeds(4, 24, seed) for seed in range(100, 104)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self._left.pop() if self._left else None

    quantization.quantize_static(source, path, Rows(), **settings)


def feeds(rows: int, columns: int, seed: int) -> dict[str, np.ndarray]:
    """Random tokens without padding."""
    ids = np.random.default_rng(seed).integers(2, VOCABULARY, (rows, columns))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def as_it_stands(path: Path) -> Callable[[dict[str, np.ndarray]], list[Any]]:
    """ONNX Runtime on a graph that it does not optimize, which would merge roundings and so change answers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(exact_file(path)), options)
    return lambda given: session.run(None, given)
