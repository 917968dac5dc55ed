"""Attention with both matrix products quantized, through Transformers' attention interface.

Registering a function under a name reaches every architecture on that interface without touching its code:
BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT, ModernBERT and their kin.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sparseml.quantization.fake_quantize import FakeQuantize
from sparseml.quantization.scheme import TensorScheme

NAME = "resparse_quantized"
"""What the attention function is registered as."""

ATTRIBUTE = "matmul_quantizers"
"""Where an attention module keeps its quantizers."""


class AttentionQuantizers(nn.Module):
    """The four tensors that enter an attention module's two matrix products."""

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
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    return _masked(scores.float(), attention_mask).softmax(dim=-1)


def _masked(scores: Tensor, attention_mask: Tensor | None) -> Tensor:
    if attention_mask is None:
        return scores
    if attention_mask.dtype == torch.bool:
        return scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    return scores + attention_mask


AttentionInterface.register(NAME, quantized_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
