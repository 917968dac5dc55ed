"""Attention as it is exported: two matrix products and a softmax, with one small additive mask for all layers.

Runtimes know this shape and fuse it. What Transformers traces by default hides it behind a mask of
[batch, 1, tokens, tokens] that is gathered from indices, and a check for rows of NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from sparseml.quantization.modules import ATTRIBUTE, attention_probabilities

NAME = "resparse_export"
"""What the attention function is registered as."""

MASKED = -65504.0
"""Added to the score of a token that is not to be seen: its share is exactly 0, in float16 and bfloat16 too."""


def exported_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Softmax attention, quantized where the module is; Transformers' signature, without dropout."""
    quantizers = getattr(module, ATTRIBUTE, None)
    if quantizers is not None:
        query, key, value = quantizers.query(query), quantizers.key(key), quantizers.value(value)
    probabilities = attention_probabilities(query, key, attention_mask, scaling)
    if quantizers is not None:
        probabilities = quantizers.probabilities(probabilities)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), None


def exported_mask(
    *args: Any, mask_function: Any, attention_mask: Tensor | None = None, **kwargs: Any
) -> Tensor | None:
    """0 where a token may be seen, MASKED where not: [batch, 1, 1, tokens] where every token sees all others.

    Windows of a local attention need [batch, 1, tokens, tokens].
    """
    if mask_function is bidirectional_mask_function and attention_mask is not None:
        seen = attention_mask[:, None, None, :]
    else:
        kwargs |= {"allow_is_bidirectional_skip": False, "allow_is_causal_skip": False}
        seen = sdpa_mask(*args, mask_function=mask_function, attention_mask=attention_mask, **kwargs)
    return (1.0 - seen.float()) * MASKED


AttentionInterface.register(NAME, exported_attention)
AttentionMaskInterface.register(NAME, exported_mask)
