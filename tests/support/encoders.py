"""Tiny classifiers of every architecture that the project names, with random weights; pruned and quantized at will."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from support.tiny import prune

VOCABULARY = 40
POSITIONS = 66
LABELS = 3

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "num_labels": LABELS,
    "initializer_range": 0.2,
}
_MODERNBERT = {
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}

ON_INTERFACE: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 8},
    "albert": {"embedding_size": 8},
    "modernbert": _MODERNBERT,
}
"""Architectures whose attention goes through Transformers' attention interface: model type to its own settings."""

OFF_INTERFACE: dict[str, dict[str, Any]] = {
    "mpnet": {},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
}
"""Architectures with attention of their own."""

ARCHITECTURES = {**ON_INTERFACE, **OFF_INTERFACE}


def dense(
    architecture: str = "bert", seed: int = 0, head: str = "SequenceClassification", **settings: Any
) -> Any:
    """A model of float weights without zeros, in evaluation mode; seeds PyTorch.

    Args:
        architecture: a key of ARCHITECTURES.
        seed: of the weights.
        head: what Transformers' class is for.
        settings: more for the configuration.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    settings = {**_COMMON, **ARCHITECTURES[architecture], **settings}
    config = transformers.AutoConfig.for_model(architecture, **settings)
    return getattr(transformers, f"AutoModelFor{head}").from_config(config).eval()


def classifier(
    architecture: str,
    *,
    sparsity: float = 0.8,
    quantized: bool = True,
    scheme: Any = None,
    submodules: Sequence[str] = (),
    spread: bool = False,
    **settings: Any,
) -> Any:
    """A classifier as a training leaves it, in evaluation mode.

    Args:
        architecture: a key of ARCHITECTURES.
        sparsity: share of zeros among the encoder's Linear weights.
        quantized: with ranges taken from random tokens.
        scheme: how, a `ModelScheme`; by default the usual one.
        submodules: what is quantized, as a recipe names it; by default all.
        spread: give biases and norms random values, where new models have zeros and ones.
        settings: more for the configuration.
    """
    import torch

    from sparseml.modifiers.select import select_modules
    from sparseml.quantization.scheme import ModelScheme
    from sparseml.quantization.structure import calibrating, enable, quantize_structure

    with torch.random.fork_rng():
        model = dense(architecture, **settings)
        prune(model, sparsity)
        if spread:
            _spread(model)
        if quantized:
            roots = select_modules(model, [*submodules], "the test")[0] if submodules else {"": model}
            quantize_structure(model, roots, scheme or ModelScheme())
            enable(model)
            with calibrating(model), torch.no_grad():
                for _ in range(4):
                    model(**batch(8, 12))
    return model


def _spread(model: Any) -> None:
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)


def batch(rows: int, tokens: int, *, padded: bool = True, source: Any = None) -> dict[str, Any]:
    """Random tokens as `input_ids` and `attention_mask`, [rows, tokens]; every second row half padding.

    `source` is a `torch.Generator`, by default PyTorch's own.
    """
    import torch

    ids = torch.randint(1, VOCABULARY, (rows, tokens), generator=source)
    mask = torch.ones_like(ids)
    if padded:
        mask[::2, (tokens + 1) // 2 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def labelled(rows: int = 4, tokens: int = 7, seed: int = 0) -> dict[str, Any]:
    """Random tokens (no special ones), all attended to, with labels; leaves PyTorch's own seed alone."""
    import torch

    source = torch.Generator().manual_seed(seed)
    return {
        "input_ids": torch.randint(5, VOCABULARY, (rows, tokens), generator=source),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long),
        "labels": torch.randint(0, LABELS, (rows,), generator=source),
    }
