"""A trained model loaded for the export, and a recipe applied to it once, without training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparseml.export.trace import ExportError
from sparseml.modifiers.base import Batch
from sparseml.recipe import Plan, compose, load_plan
from sparseml.session import checkpoint
from sparseml.session.models import load_config, load_model, load_tokenizer, resolve, restore_saved
from sparseml.session.session import Session
from sparseml.tasks import task_of
from sparseml.tasks.base import Task, Texts

_CALIBRATION_BATCH = 16
_CALIBRATION_ROWS = 512


@dataclass
class Trained:
    """A trained model.

    Attributes:
        task: what it does.
        model: in evaluation mode, fake-quantized where it is quantized.
        tokenizer: its own.
        plan: the recipe that it was trained under; None where there is none.
        limit: tokens that the deployed model takes.
    """

    task: Task
    model: Any
    tokenizer: Any
    plan: Plan | None
    limit: int


def load(folder: Path, task: Task | None = None, length: int | None = None) -> Trained:
    """Load what a training left, and check that it can be exported.

    Args:
        folder: the training's.
        task: what the model does; by default its configuration says.
        length: tokens that the deployed model takes; by default as many as it can.

    Raises:
        UserError: no model, no tokenizer, a classifier that was never trained, or weights that are not finite.
    """
    if not folder.is_dir():
        raise ExportError(f"--model_path {str(folder)!r} is not a folder: give the output_dir of a training.")
    source = resolve(str(folder))
    task = task or task_of(load_config(source))
    loaded = load_model(source, task.model_class)
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
    return Trained(task, model, tokenizer, made.plan if made else None, _limit(model, tokenizer, length))


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


def apply_once(trained: Trained, recipe: str, rows: Sequence[Texts]) -> None:
    """Apply a recipe in place; modifiers that need calibration get the rows.

    Raises:
        RecipeError, ModifierError: the recipe cannot be carried out on this model.
    """
    plan = load_plan(recipe)
    session = Session(plan, trained.model, allow_dense_start=True)

    def batches() -> Iterator[Batch]:
        for start in range(0, min(len(rows), _CALIBRATION_ROWS), _CALIBRATION_BATCH):
            texts = map(list, zip(*rows[start : start + _CALIBRATION_BATCH], strict=True))
            yield dict(
                trained.tokenizer(
                    *texts, truncation=True, max_length=trained.limit, padding=True, return_tensors="pt"
                )
            )

    session.run.batches = batches
    session.apply_once()
    session.finish()
    trained.model.eval()
    trained.plan = plan if trained.plan is None else compose(trained.plan, plan)
