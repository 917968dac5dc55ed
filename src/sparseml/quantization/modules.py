"""Fake-quantized Linear and Embedding layers, and attention with both matrix products quantized.

A layer becomes quantized by changing its class in place: its parameters, hooks, tied references and place in the
model stay the same objects, so the optimizer, masks and DDP are not affected. Attention is replaced through
Transformers' attention interface, which BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT, ModernBERT and many others use.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging

from sparseml.quantization.fake_quantize import FakeQuantize
from sparseml.quantization.scheme import LayerScheme, TensorScheme

QUANTIZED_ATTENTION = "resparse_quantized"
"""The name under which the attention function is registered."""

ATTRIBUTE = "matmul_quantizers"
"""The attribute of an attention module that holds its quantizers."""


class QuantizedLinear(nn.Linear):
    """`F.linear` of fake-quantized tensors; without a quantizer a tensor stays in floating point."""

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
    """Rows of a quantized table: `weight_quantizer` takes the whole table's range and rounds the rows looked up."""

    weight_quantizer: FakeQuantize

    def forward(self, input: Tensor) -> Tensor:
        """[...] of indices to [..., embedding_dim]."""
        rows = super().forward(input)
        if not self.weight_quantizer.enabled:
            return rows
        if self.weight_quantizer.observes:
            self.weight_quantizer.observe(self.weight.detach())
        # Rounding is elementwise: only the rows looked up need it.
        return self.weight_quantizer.round(rows)


def quantize_linear(layer: nn.Linear, scheme: LayerScheme, shared_input: FakeQuantize | None = None) -> None:
    """Make a Linear layer (exactly an nn.Linear) a QuantizedLinear, in place.

    `shared_input` is the quantizer of another layer that is fed by the same tensor.
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
    one_scale = scheme.weights.model_copy(update={"strategy": "tensor"})
    layer.weight_quantizer = FakeQuantize(one_scale, layer.weight)


class AttentionQuantizers(nn.Module):
    """Quantizers of the four operands of an attention module's two matrix products."""

    def __init__(self, left: TensorScheme, right: TensorScheme) -> None:
        super().__init__()
        self.query = FakeQuantize(left)
        self.key = FakeQuantize(right)
        self.probabilities = FakeQuantize(left)
        self.value = FakeQuantize(right)


def quantized_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Softmax attention with fake-quantized operands; Transformers' signature for attention functions.

    Args:
        module: the attention module; without quantizers of its own it falls back to the unquantized function.
        query, key, value: [batch, heads, tokens, head size].
        attention_mask: boolean (True: attend) or additive, broadcast to [batch, heads, tokens, tokens].
        scaling: factor of the scores; by default 1 / sqrt(head size).
        dropout: share of the probabilities dropped.

    Returns:
        [batch, tokens, heads, head size], and the probabilities.
    """
    quantizers = getattr(module, ATTRIBUTE, None)
    if quantizers is None or not quantizers.query.enabled:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    query, key, value = quantizers.query(query), quantizers.key(key), quantizers.value(value)
    # Quantized before dropout: at inference there is no dropout, and the grid must be that of inference.
    probabilities = quantizers.probabilities(attention_probabilities(query, key, attention_mask, scaling))
    mixed = torch.matmul(F.dropout(probabilities, dropout, module.training), value)
    return mixed.transpose(1, 2).contiguous(), probabilities


def attention_probabilities(
    query: Tensor, key: Tensor, attention_mask: Tensor | None, scaling: float | None
) -> Tensor:
    """[batch, heads, tokens, tokens] in float32; arguments as for `quantized_attention`."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (torch.matmul(query, key.transpose(-1, -2)) * scaling).float()
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    return scores.softmax(dim=-1)


def attention_implementation(model: Any) -> str:
    """The name of the attention function that the model uses."""
    return str(model.config._attn_implementation)


def set_attention(model: Any, name: str) -> None:
    """Make the model use an attention function, where its architecture is on the interface at all."""
    if not getattr(model, "_supports_attention_backend", False):
        return
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model.set_attn_implementation(name)
    finally:
        logging.set_verbosity(before)


AttentionInterface.register(QUANTIZED_ATTENTION, quantized_attention)
AttentionMaskInterface.register(QUANTIZED_ATTENTION, sdpa_mask)
