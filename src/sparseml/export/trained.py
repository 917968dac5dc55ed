"""A trained model loaded for the export, and one-shot application of a recipe to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from resparse.long_texts import LongTexts, cut, long_texts_of, starts_of
from sparseml.data.long_texts import as_columns, plain_tokenizer, rows_of
from sparseml.export.trace import ExportError, input_names
from sparseml.modifiers.base import Batch
from sparseml.quantization.structure import clip_weights
from sparseml.recipe import Plan, compose, load_plan
from sparseml.session import checkpoint
from sparseml.session.models import load_config, load_model, load_tokenizer, resolve, restore_saved
from sparseml.session.session import Session
from sparseml.tasks import TASKS, task_of
from sparseml.tasks.base import Task, Texts

_CALIBRATION_BATCH = 16
_CALIBRATION_ROWS = 512


@dataclass
class Trained:
    """A trained model."""

    task: Task
    model: Any  # in evaluation mode, fake-quantized where it is quantized
    tokenizer: Any
    plan: Plan | None  # the recipe that it was trained with; None where there is none
    limit: int  # the deployed model's maximum number of tokens

    @property
    def inputs(self) -> list[str]:
        """Names of the exported graph's inputs."""
        return input_names(self.model, self.tokenizer.model_input_names)

    @cached_property
    def long_texts(self) -> LongTexts:
        """What it reads of texts that are longer than it takes.

        Raises:
            ExportError: its configuration says what makes no sense.
        """
        try:
            return long_texts_of(self.model.config.to_dict())
        except ValueError as error:
            raise ExportError(f"The model's config.json: {error}.") from error

    @property
    def window(self) -> int:
        """Tokens of one window of a text, or of all that is read of it."""
        return (
            min(self.limit, self.long_texts.length or self.limit) if self.long_texts.windows else self.limit
        )

    @cached_property
    def _plain_tokenizer(self) -> Any:
        return plain_tokenizer(self.tokenizer)

    def windows(self, rows: Sequence[Texts]) -> tuple[Any, list[int]]:
        """As `encode`, [windows, tokens], a row's windows side by side; and where each row's begin, (rows + 1,)."""
        texts = rows_of([list(column) for column in zip(*rows, strict=True)])
        left = self.tokenizer.truncation_side == "left"
        cuts = cut(self._plain_tokenizer, texts, self.window, self.long_texts, left)
        batch = self.tokenizer.pad(as_columns(cuts), return_tensors="pt")
        return batch, starts_of(len(each.windows) for each in cuts)

    def longer(self, rows: Sequence[Texts]) -> int:
        """How many of the rows are longer than a window."""
        lengths = (len(self.tokenizer(*row, verbose=False)["input_ids"]) for row in rows)
        return sum(length > self.window for length in lengths)

    def encode(self, rows: Sequence[Texts]) -> Any:
        """Tokenize a batch of rows: PyTorch tensors [rows, tokens], padded to the longest."""
        texts = map(list, zip(*rows, strict=True))
        return self.tokenizer(
            *texts, truncation=True, max_length=self.limit, padding=True, return_tensors="pt"
        )


def load(folder: Path, task: Task | None = None, length: int | None = None) -> Trained:
    """Load a training's result, and check that it can be exported, with at most `length` tokens.

    Raises:
        UserError: no model, no tokenizer, a classifier that was never trained, or weights that are not finite.
    """
    if not folder.is_dir():
        raise ExportError(f"--model_path {str(folder)!r} is not a folder: give the output_dir of a training.")
    source = resolve(str(folder))
    task = task or task_of(load_config(source))
    if not TASKS[task.name].deployed:
        raise ExportError(
            f"{source.called} is a model of plain text, a start for other trainings: it is not exported. Train it "
            f"first: sparseml train --model_name_or_path {folder} --train_file rows.csv"
        )
    loaded = load_model(source, task.model_class)
    if loaded.new:
        raise ExportError(
            f"{source.called} has no trained classifier for the {loaded.model.config.num_labels} labels of its "
            f"config.json: {', '.join(loaded.new[:3])} are missing or of another shape. Train it first."
        )
    saved = checkpoint.saved(source.folder)
    if saved is not None:
        restore_saved(loaded.model, saved)
        clip_weights(loaded.model)
    model = loaded.model.eval()
    invalid = [name for name, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if invalid:
        raise ExportError(
            f"{len(invalid)} weights of {source.called} are not finite ({invalid[0]}, ...): its training diverged, or "
            "the file is damaged."
        )
    tokenizer = load_tokenizer(source)
    return Trained(task, model, tokenizer, saved.plan if saved else None, _limit(model, tokenizer, length))


def _limit(model: Any, tokenizer: Any, length: int | None) -> int:
    """The deployed model's maximum number of tokens."""
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    # RoBERTa's positions start after the padding token's id.
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
    """Apply a recipe in place, without training; modifiers are calibrated on the rows."""
    plan = load_plan(recipe)
    session = Session(plan, trained.model, allow_dense_start=True)

    def batches() -> Iterator[Batch]:
        for start in range(0, min(len(rows), _CALIBRATION_ROWS), _CALIBRATION_BATCH):
            yield dict(trained.encode(rows[start : start + _CALIBRATION_BATCH]))

    session.run.batches = batches
    session.apply_once()
    session.finish()
    trained.model.eval()
    trained.plan = plan if trained.plan is None else compose(trained.plan, plan)
