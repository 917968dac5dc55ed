"""Quantization-aware training: fake-quantized modules with buffers only, put in place of a model's own."""
