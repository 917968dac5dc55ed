"""Weights of classes in the loss, for data in which some are rare: by their counts, or from a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from resparse.arrays import Array
from resparse.errors import did_you_mean
from resparse.json_text import JsonError, parse_json
from sparseml.data.label_encoding import MULTI, SINGLE, Labels
from sparseml.data.rows import DataError

BALANCED: Final = "balanced"
NONE: Final = "none"

IMBALANCED: Final = 3.0
"""A guided run weights classes where the commonest has so many times the rows of the rarest."""


def class_weights(asked: str | None, labels: Labels, truth: Array) -> Array | None:
    """The weights [labels] that `--class_weights` asks for; None for none.

    - One label a row: "balanced" is rows / (classes * rows of the class), after King and Zeng 2001, as scikit-learn has
      it. All are scaled so that their mean over the rows is 1: the loss keeps its size beside a teacher's.
    - Several labels: the weight of a label's own rows against the others (PyTorch's `pos_weight`). "balanced" is
      rows without the label / rows with it.

    Args:
        asked: "balanced", "none", or a JSON file of class names and weights; classes that it does not name have 1.
        labels: classes, not scores.
        truth: of the training rows, [rows] ids, or [rows, labels] of 0 and 1.

    Raises:
        DataError: a file that cannot be read, or that weights what is no class.
    """
    if asked is None or asked.lower() == NONE:
        return None
    counts, rows = class_counts(labels, truth), len(truth)
    if asked.lower() == BALANCED:
        present = np.maximum(counts, 1)
        if labels.kind == MULTI:
            return np.where(counts > 0, (rows - counts) / present, 1.0).clip(min=1 / max(rows, 1))
        weights = np.where(counts > 0, rows / (max(int((counts > 0).sum()), 1) * present), 1.0)
    else:
        weights = _read(Path(asked).expanduser(), labels)
    if labels.kind == SINGLE:
        weights = weights * rows / float((weights * counts).sum())
    return weights


def class_counts(labels: Labels, truth: Array) -> Array:
    """The rows [labels] that each class has."""
    if labels.kind == MULTI:
        counts: Array = (np.asarray(truth) > 0.5).sum(axis=0)
        return counts
    return np.bincount(np.asarray(truth, np.int64), minlength=labels.num_labels)


def described(labels: Labels, weights: Array, most: int = 8) -> str:
    """The weights for a note: of many classes those that are weighted most and least."""
    order = np.argsort(-weights, kind="stable")
    shown = [f"{labels.names[index]} {weights[index]:.3g}" for index in order]
    if len(shown) > most:
        shown = [*shown[: most // 2], "...", *shown[-most // 2 :]]
    return ", ".join(shown)


def choose(labels: Labels, truth: Array) -> tuple[str, str | None]:
    """What a guided run takes for `--class_weights`, and why, where there is something to say."""
    counts = class_counts(labels, truth)
    if labels.kind != SINGLE or counts.min() == 0:
        return NONE, None
    rare, common = int(counts.argmin()), int(counts.argmax())
    if counts[common] < IMBALANCED * counts[rare]:
        return NONE, None
    return BALANCED, (
        f"class weights: balanced, since {labels.names[common]} has {counts[common]:,} rows and {labels.names[rare]} "
        f"{counts[rare]:,} (--class_weights none counts every row alike)"
    )


def _read(path: Path, labels: Labels) -> Array:
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except JsonError as error:
        place = f", line {error.line}" if error.line else ""
        raise DataError(f"--class_weights {path}{place}: not JSON: {error.reason}.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"--class_weights {path} is neither balanced nor none, nor a file that can be read: {reason}."
        ) from error
    if not isinstance(values, dict) or not values:
        raise DataError(f'--class_weights {path} must hold an object of classes and weights: {{"rare": 4}}.')
    for name, value in values.items():
        if name not in labels.names:
            raise DataError(
                f"--class_weights {path}: there is no class {name!r}. {did_you_mean(name, labels.names)}"
            )
        if not _is_weight(value):
            raise DataError(f"--class_weights {path}: {name!r} has {value!r}; a weight is a number above 0.")
    return np.asarray([float(values.get(name, 1.0)) for name in labels.names])


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
