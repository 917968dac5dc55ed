"""Tiny classifiers, exported in the portable form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support import encoders

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {},
    "electra": {},
    "albert": {},
}
"""The architectures of the native engine, and what is unusual about these models."""

EVERY = ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS if name != "bert")]
"""For tests of every architecture: an export takes seconds, so all but one are slow."""

FLOAT_HEADS = [
    ("bert", ("bert.encoder",)),
    *(
        pytest.param(architecture, submodules, marks=pytest.mark.slow)
        for architecture, submodules in (
            ("bert", ("bert.embeddings", "bert.encoder", "bert.pooler")),
            ("bert", ("bert.embeddings", "bert.encoder", "classifier")),
            ("distilbert", ("bert.encoder", "bert.pooler")),
            *((name, ("bert.encoder",)) for name in SETTINGS if name != "bert"),
        )
    ),
]
"""What recipes quantize that leave the head in float, or a part of it; of ELECTRA also the projection."""

POSITIONS = 520
"""Tokens that these models have positions for."""


def portable(
    architecture: str, path: Path, inputs: Sequence[str] = INPUTS, form: str = "portable", **settings: Any
) -> Path:
    """Export a classifier of `encoders` to an ONNX file, and return it.

    Args:
        architecture: a key of `encoders.ARCHITECTURES`.
        path: of the file.
        inputs: what the tokenizer would offer.
        form: of the graph.
        settings: for `encoders.classifier`.
    """
    import onnx_ir as ir

    from sparseml.export.formats import apply_format
    from sparseml.export.trace import input_names, to_onnx

    model = encoders.classifier(architecture, **settings)
    graph = to_onnx(model, input_names(model, inputs))
    apply_format(graph, form)
    ir.save(graph, path)
    return path
