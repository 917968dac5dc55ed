"""What a training left, loaded for the export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from sparseml.export.onnx import ExportError
from sparseml.recipe import Plan
from sparseml.session import checkpoint
from sparseml.session.models import load_model, load_tokenizer, resolve, restore_saved


@dataclass
class Trained:
    """A trained classifier.

    Attributes:
        model: in evaluation mode, fake-quantized where it is quantized.
        tokenizer: its own.
        plan: the recipe that it was trained under; None where there is none.
        limit: tokens that the deployed model takes.
    """

    model: Any
    tokenizer: Any
    plan: Plan | None
    limit: int


def load(folder: Path, length: int | None = None) -> Trained:
    """Load what a training left, and check that it can be exported.

    Args:
        folder: the training's.
        length: tokens that the deployed model takes; by default as many as it can.

    Raises:
        UserError: no model, no tokenizer, a classifier that was never trained, or weights that are not finite.
    """
    if not folder.is_dir():
        raise ExportError(f"--model_path {str(folder)!r} is not a folder: give the output_dir of a training.")
    source = resolve(str(folder))
    loaded = load_model(source, AutoModelForSequenceClassification)
    if loaded.new:
        raise ExportError(
            f"{source.called} has no trained classifier for the {loaded.model.config.num_labels} labels of its "
            f"config.json: {', '.join(loaded.new[:3])} are missing or of another shape. Train it first."
        )
    made = checkpoint.saved(source.folder)
    if made is not None:
        restore_saved(loaded.model, made)
    model = loaded.model.eval()
    spoiled = [name for name, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if spoiled:
        raise ExportError(
            f"{len(spoiled)} weights of {source.called} are not finite ({spoiled[0]}, ...): its training diverged, or "
            "the file is damaged."
        )
    tokenizer = load_tokenizer(source)
    # Transformers makes an empty tokenizer where there is none.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ExportError(
            f"{source.called} has no tokenizer: copy tokenizer.json there from where its training began."
        )
    return Trained(model, tokenizer, made.plan if made else None, _limit(model, tokenizer, length))


def _limit(model: Any, tokenizer: Any, length: int | None) -> int:
    """Tokens that the deployed model takes."""
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    # RoBERTa and its kin count positions from behind the padding token's.
    embeddings = getattr(model.base_model, "embeddings", None)
    if getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None) is not None:
        positions -= model.config.pad_token_id + 1
    most = min(positions, tokenizer.model_max_length)
    if length is None:
        return int(most)
    if length > most or length < 1:
        raise ExportError(f"--sequence_length {length}: the model takes 1 to {most} tokens.")
    return length
