"""ONNX Runtime's exact products of 8-bit integers, on processors whose fast ones are cut off.

x86 processors without VNNI add two products of 8 bits to 16, which saturate: a trained model's logits are then off by
several tenths. ONNX Runtime has exact ones, a quarter slower for a whole model (measured on Zen 3), and leaves other
processors alone: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#when-and-why-do-i-need-to-try-u8u8
"""

from __future__ import annotations

from typing import Final

EXACT_PRODUCTS: Final = ("session.x64quantprecision", "1")
"""Entry of a session's configuration."""
