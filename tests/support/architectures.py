"""Tiny classifiers of every architecture that the project names, built in milliseconds with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

VOCABULARY, LABELS = 60, 3

_USUAL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
_DISTILBERT = {
    "vocab_size": VOCABULARY,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 40,
}
_MODERNBERT = {
    "global_attn_every_n_layers": 2,
    "local_attention": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
_DEBERTA = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}

ON_INTERFACE = {
    "bert": _USUAL,
    "roberta": _USUAL,
    "xlm-roberta": _USUAL,
    "electra": {**_USUAL, "embedding_size": 8},
    "albert": {**_USUAL, "embedding_size": 8},
    "distilbert": _DISTILBERT,
    "modernbert": {**_USUAL, **_MODERNBERT},
}
"""Architectures whose attention goes through Transformers' attention interface: model type to sizes."""

OFF_INTERFACE = {"mpnet": _USUAL, "deberta-v2": {**_USUAL, **_DEBERTA}}
"""Architectures with attention of their own."""

ARCHITECTURES = {**ON_INTERFACE, **OFF_INTERFACE}


def classifier(architecture: str = "bert", seed: int = 0, **overrides: Any) -> Any:
    """A classifier of three labels, in evaluation mode."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        architecture, num_labels=LABELS, **{**ARCHITECTURES[architecture], **overrides}
    )
    return AutoModelForSequenceClassification.from_config(config).eval()


def batch(rows: int = 4, tokens: int = 7, seed: int = 0) -> dict[str, Tensor]:
    """Random token ids (no special ones), all attended to, with labels."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "input_ids": torch.randint(5, VOCABULARY, (rows, tokens), generator=generator),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long),
        "labels": torch.randint(0, LABELS, (rows,), generator=generator),
    }


def prune(model: torch.nn.Module, share: float = 0.6) -> None:
    """Set the smallest weights of every Linear layer to zero."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                cut = module.weight.abs().flatten().kthvalue(int(module.weight.numel() * share)).values
                module.weight[module.weight.abs() <= cut] = 0.0
