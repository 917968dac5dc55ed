"""Linear and Embedding with fake-quantized weights and inputs.

A layer becomes quantized by changing its class in place: parameters, hooks, tied references and
its place in the model stay what they are, so the optimizer, masks and DDP notice nothing.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparseml.quantization.fake_quantize import FakeQuantize
from sparseml.quantization.scheme import LayerScheme


class QuantizedLinear(nn.Linear):
    """`F.linear` on the grid: `input_quantizer`, `weight_quantizer`, `output_quantizer`, each may be None."""

    input_quantizer: FakeQuantize | None
    weight_quantizer: FakeQuantize | None
    output_quantizer: FakeQuantize | None

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        if self.input_quantizer is not None:
            input = self.input_quantizer(input)
        weight = self.weight if self.weight_quantizer is None else self.weight_quantizer(self.weight)
        result = F.linear(input, weight, self.bias)
        return result if self.output_quantizer is None else self.output_quantizer(result)


class QuantizedEmbedding(nn.Embedding):
    """Rows of a quantized table: `weight_quantizer` sees the whole table's range, and rounds the rows taken."""

    weight_quantizer: FakeQuantize

    def forward(self, input: Tensor) -> Tensor:
        """[...] of indices to [..., embedding_dim]."""
        rows = super().forward(input)
        if not self.weight_quantizer.enabled:
            return rows
        if self.weight_quantizer.observes:
            self.weight_quantizer.observe(self.weight.detach())
        # Rounding is elementwise: the rows taken are rounded, not the whole table at every step.
        return self.weight_quantizer.round(rows)


def quantize_linear(layer: nn.Linear, scheme: LayerScheme, shared_input: FakeQuantize | None = None) -> None:
    """Make a Linear layer a QuantizedLinear, in place.

    Args:
        layer: exactly an nn.Linear.
        scheme: its tensors' schemes.
        shared_input: the quantizer of another layer that is fed by the same tensor.
    """
    layer.__class__ = QuantizedLinear
    assert isinstance(layer, QuantizedLinear)
    layer.input_quantizer = shared_input or (FakeQuantize(scheme.inputs) if scheme.inputs else None)
    layer.weight_quantizer = FakeQuantize(scheme.weights, layer.weight) if scheme.weights else None
    layer.output_quantizer = FakeQuantize(scheme.outputs) if scheme.outputs else None
    layer.to(layer.weight.device)


def quantize_embedding(layer: nn.Embedding, scheme: LayerScheme) -> None:
    """Make an Embedding layer a QuantizedEmbedding, in place; one scale for the whole table."""
    assert scheme.weights is not None
    layer.__class__ = QuantizedEmbedding
    assert isinstance(layer, QuantizedEmbedding)
    layer.weight_quantizer = FakeQuantize(
        scheme.weights.model_copy(update={"strategy": "tensor"}), layer.weight
    )
