"""Bounds from outside on the size of a run, to try a command without changing it.

A recipe counts in epochs. Fewer rows make shorter epochs, so that a run which is cut in this way still carries out its
whole recipe, quantization included; `--max_steps` and fewer epochs would end it before.
"""

from __future__ import annotations

import os
from typing import Final

from sparseml.transformers.options.groups import DataTrainingArguments, TrainingArguments
from sparseml.transformers.options.table import ArgumentError

ROWS: Final = "RESPARSE_MAX_ROWS"
"""Variable of the environment: rows of each split, at most."""

STEPS: Final = "RESPARSE_MAX_STEPS"
"""Variable of the environment: optimizer steps in each epoch, at most."""


def cap(data: DataTrainingArguments, training: TrainingArguments) -> list[str]:
    """Lower, in place, the numbers of rows to what the environment allows.

    Args:
        data: its `max_*_samples` are changed.
        training: says how many rows a step takes.

    Returns:
        A line for the user on each bound at work: what comes of such a run is no result.

    Raises:
        ArgumentError: a variable that is no whole number above 0.
    """
    notes = []
    rows, steps = _bound(ROWS), _bound(STEPS)
    if rows is not None:
        data.max_train_samples = _least(data.max_train_samples, rows)
        data.max_eval_samples = _least(data.max_eval_samples, rows)
        data.max_predict_samples = _least(data.max_predict_samples, rows)
        notes.append(f"{ROWS}={rows} is set: each split is cut to {rows:,} rows. For trying out only.")
    if steps is not None:
        a_step = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
        data.max_train_samples = _least(data.max_train_samples, steps * a_step)
        notes.append(
            f"{STEPS}={steps} is set: an epoch is cut to {steps:,} x {a_step:,} rows. For trying out only."
        )
    return notes


def _bound(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError(f"{name}={text}: give a whole number above 0, or unset the variable.")
    return int(text)


def _least(asked: int | None, bound: int) -> int:
    return bound if asked is None else min(asked, bound)
