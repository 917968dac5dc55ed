"""Tiny classifiers, exported in the portable form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import encoders

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


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

    from sparseml.export.forms import give_form
    from sparseml.export.onnx import input_names, to_onnx

    model = encoders.classifier(architecture, **settings)
    graph = to_onnx(model, input_names(model, inputs))
    give_form(graph, form)
    ir.save(graph, path)
    return path
