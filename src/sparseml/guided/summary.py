"""What a classifier gets right and wrong, as facts (for report.json); `summary_text` says them to a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sparseml.data.label_encoding import MULTI, REGRESSION, Labels
from sparseml.metrics import (
    MULTI_LABEL_THRESHOLD,
    classification_metrics,
    confusion,
    decisions,
    multi_label_metrics,
    probabilities,
    regression_metrics,
)

EXAMPLES: Final = 3
"""Wrong answers that are shown."""

_CONFUSED: Final = 10
_LITTLE: Final = 0.02


@dataclass(frozen=True)
class Answers:
    """Rows with what is true of them and what a model says.

    Attributes:
        texts: one text a row, or two.
        truth: (rows,) class ids or scores; (rows, labels) of 0 and 1 for several labels.
        logits: (rows, labels).
        labels: what they mean.
    """

    texts: Sequence[Sequence[str]]
    truth: np.ndarray
    logits: np.ndarray
    labels: Labels


def facts(answers: Answers) -> dict[str, Any]:
    """Scores, confusions and examples, ready for JSON."""
    kind = answers.labels.kind
    find = _regression if kind == REGRESSION else _several if kind == MULTI else _single
    made = {"kind": kind, "rows": len(answers.texts), **find(answers)}
    return {**made, "learned": _learned(made)}


def _learned(made: Mapping[str, Any]) -> bool:
    """Whether the model does better than one that always says the same, by more than a little."""
    if made["kind"] == REGRESSION:
        return bool(made["mae"] < (1 - _LITTLE) * made["mae_of_median"])
    if made["kind"] == MULTI:
        return bool(made["f1_micro"] > _LITTLE)
    return bool(made["accuracy"] > made["commonest"]["share"] + _LITTLE)


def _single(answers: Answers) -> dict[str, Any]:
    names = answers.labels.names
    predicted = decisions(answers.logits, answers.labels.kind)
    shares = probabilities(answers.logits, answers.labels.kind)
    scores = classification_metrics(answers.logits, answers.truth)
    counts = np.bincount(answers.truth, minlength=len(names))
    wrong = np.flatnonzero(predicted != answers.truth)
    # The surest mistakes first: they show wrong labels, or what the model has not understood.
    worst = wrong[np.argsort(-shares[wrong, predicted[wrong]], kind="stable")][:EXAMPLES]
    return {
        **scores,
        "margin": _margin(scores["accuracy"], len(answers.texts)),
        "commonest": {"label": names[int(counts.argmax())], "share": float(counts.max() / counts.sum())},
        "confusion": confusion(answers.truth, predicted, names),
        "confused": _confused(answers.truth, predicted, names),
        "wrong": [
            {
                "text": list(answers.texts[row]),
                "label": names[int(answers.truth[row])],
                "predicted": names[int(predicted[row])],
                "score": float(shares[row, predicted[row]]),
            }
            for row in worst.tolist()
        ],
    }


def _confused(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The commonest mistakes, most frequent first."""
    table = confusion(truth, predicted, names)
    pairs: list[dict[str, Any]] = [
        {"label": true, "predicted": taken, "rows": rows}
        for true, row in table.items()
        for taken, rows in row.items()
        if rows and taken != true
    ]
    return sorted(pairs, key=lambda pair: -pair["rows"])[:_CONFUSED]


def _several(answers: Answers) -> dict[str, Any]:
    names = answers.labels.names
    shares = probabilities(answers.logits, MULTI)
    predicted = decisions(answers.logits, MULTI)
    truth = (np.asarray(answers.truth) > 0.5).astype(np.int64)
    scores = multi_label_metrics(answers.logits, truth, names)
    # How far a row's probabilities are from the truth, where they decide wrongly.
    off = np.where(predicted != truth, np.abs(shares - truth), 0.0).sum(axis=1)
    worst = [row for row in np.argsort(-off, kind="stable")[:EXAMPLES].tolist() if off[row] > 0]

    def listed(row: np.ndarray) -> list[str]:
        return [name for name, flag in zip(names, row, strict=True) if flag]

    return {
        "f1_micro": scores["f1_micro"],
        "f1_macro": scores["f1_macro_average"],
        "exact": float((predicted == truth).all(axis=1).mean()),
        "threshold": MULTI_LABEL_THRESHOLD,
        "labels": [
            {
                "label": name,
                "rows": int(truth[:, index].sum()),
                **{metric: scores[f"{metric}_{name}"] for metric in ("precision", "recall", "f1")},
            }
            for index, name in enumerate(names)
        ],
        "wrong": [
            {
                "text": list(answers.texts[row]),
                "label": listed(truth[row]),
                "predicted": listed(predicted[row]),
                "score": {
                    name: float(shares[row, index])
                    for index, name in enumerate(names)
                    if predicted[row, index]
                },
            }
            for row in worst
        ],
    }


def _regression(answers: Answers) -> dict[str, Any]:
    predicted = decisions(answers.logits, REGRESSION).astype(np.float64)
    truth = np.asarray(answers.truth, dtype=np.float64)
    off = np.abs(predicted - truth)
    return {
        **regression_metrics(predicted, truth),
        "mae": float(off.mean()),
        # What always saying the middle value would give: the least that there is to beat.
        "mae_of_median": float(np.abs(truth - np.median(truth)).mean()),
        "range": [float(truth.min()), float(truth.max())],
        "wrong": [
            {
                "text": list(answers.texts[row]),
                "label": float(truth[row]),
                "predicted": float(predicted[row]),
                "score": float(off[row]),
            }
            for row in np.argsort(-off, kind="stable")[:EXAMPLES].tolist()
        ],
    }


def _margin(share: float, rows: int) -> float:
    """How far the farther end of a share's 95 % interval is, when it was counted in so many rows (Wilson, 1927)."""
    z = 1.96
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return half + abs(centre - share)
