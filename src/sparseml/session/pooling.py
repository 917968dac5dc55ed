"""What a classifier reads of a text: its first token, as Transformers' BERT does, or the mean of its tokens.

Sentence encoders such as MiniLM are trained for the mean of their tokens; what they write into the first one says
little before a long training. `classifier_pooling` in config.json says which it is, under ModernBERT's name for it.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertPooler

from sparseml.session.sources import ModelError

KEY: Final = "classifier_pooling"
FIRST, MEAN = "cls", "mean"
POOLINGS: Final = (FIRST, MEAN)


class _EveryToken(BertPooler):
    """Passes the hidden states on: `_MeanBert`, which knows the mask, applies `dense` to their mean."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states


class _MeanBert(BertModel):
    """A BERT whose pooled output is computed from the mean of the tokens that are no padding."""

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Any:
        output = super().forward(input_ids, attention_mask=attention_mask, **kwargs)
        pooler: Any = self.pooler
        mean = mean_of_tokens(output.pooler_output, attention_mask)
        output.pooler_output = pooler.activation(pooler.dense(mean))
        return output


def mean_of_tokens(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The mean [batch, width] of hidden states [batch, tokens, width] over the tokens of a mask [batch, tokens]."""
    if mask is None:
        return hidden.mean(dim=1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def can_pool(model: Any) -> bool:
    """Whether `set_pooling` can change what a classifier reads."""
    base: Any = getattr(model, model.base_model_prefix, None)
    return type(base) in (BertModel, _MeanBert) and type(base.pooler) in (BertPooler, _EveryToken)


def set_pooling(model: Any, pooling: str) -> None:
    """Let a classifier read the first token or the mean, in place, and note it in its configuration.

    Raises:
        ModelError: the architecture does not allow it.
    """
    native = hasattr(type(model.config)(), KEY)  # ModernBERT chooses by its configuration
    if not native and not can_pool(model):
        if pooling == FIRST:
            return
        raise ModelError(
            f"--{KEY} {pooling}: of a {type(model).__name__} it cannot be chosen; of BERT and ModernBERT it can."
        )
    setattr(model.config, KEY, pooling)
    if not native:
        base = getattr(model, model.base_model_prefix)
        base.__class__ = _MeanBert if pooling == MEAN else BertModel
        base.pooler.__class__ = _EveryToken if pooling == MEAN else BertPooler


def restore_pooling(model: Any) -> None:
    """Let a loaded classifier read what its configuration says, where Transformers' class does not know that."""
    if getattr(model.config, KEY, None) == MEAN and can_pool(model):
        set_pooling(model, MEAN)


@torch.no_grad()
def pass_through(model: Any) -> None:
    """Let the pooler of a classifier hand on what it reads, in place: its layer becomes the identity.

    Its weights were learned for the first token, of another pre-training. Its tanh hardly changes a mean of hidden
    states, whose entries are small. As a sparse matrix it has no cost either.
    """
    dense: nn.Linear = getattr(model, model.base_model_prefix).pooler.dense
    nn.init.eye_(dense.weight)
    nn.init.zeros_(dense.bias)
