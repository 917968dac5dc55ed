"""The evaluation of a guided run as facts for report.json; `summary_text` formats them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from resparse import thresholds
from sparseml import metrics
from sparseml.data.label_encoding import MULTI, REGRESSION, Labels
from sparseml.decisions import decisions, probabilities

EXAMPLES: Final = 3
"""Wrong predictions that are shown."""

_CONFUSED: Final = 10
_MIN_GAIN: Final = 0.02


@dataclass(frozen=True)
class Predictions:
    """Rows with their true labels and a model's outputs."""

    texts: Sequence[Sequence[str]]  # one text a row, or two
    truth: np.ndarray  # (rows,) class ids or scores; (rows, labels) of 0 and 1 for several labels
    logits: np.ndarray  # (rows, labels)
    labels: Labels


def facts(predictions: Predictions) -> dict[str, Any]:
    """Scores, confusions and examples, ready for JSON."""
    kind = predictions.labels.kind
    predictions = replace(predictions, logits=predictions.labels.confidence.scaled(predictions.logits))
    evaluate = _regression if kind == REGRESSION else _multi_label if kind == MULTI else _single_label
    evaluated = {"kind": kind, "rows": len(predictions.texts), **evaluate(predictions)}
    return {**evaluated, "learned": _learned(evaluated)}


def _learned(facts: Mapping[str, Any]) -> bool:
    """Whether the model is better than a constant prediction by more than a margin."""
    if facts["kind"] == REGRESSION:
        return bool(facts["mae"] < (1 - _MIN_GAIN) * facts["mae_of_median"])
    if facts["kind"] == MULTI:
        return bool(facts["f1_micro"] > _MIN_GAIN)
    return bool(facts["accuracy"] > facts["commonest"]["share"] + _MIN_GAIN)


def _example(predictions: Predictions, row: int, label: Any, predicted: Any, score: Any) -> dict[str, Any]:
    return {"text": list(predictions.texts[row]), "label": label, "predicted": predicted, "score": score}


def _single_label(predictions: Predictions) -> dict[str, Any]:
    names = predictions.labels.names
    predicted = decisions(predictions.logits, predictions.labels.kind)
    shares = probabilities(predictions.logits, predictions.labels.kind)
    scores = metrics.classification_metrics(predictions.logits, predictions.truth)
    counts = np.bincount(predictions.truth, minlength=len(names))
    wrong = np.flatnonzero(predicted != predictions.truth)
    # The most confident mistakes first: they show wrong labels, or what the model has not learned.
    worst = wrong[np.argsort(-shares[wrong, predicted[wrong]], kind="stable")][:EXAMPLES]
    table = metrics.confusion(predictions.truth, predicted, names)
    return {
        **scores,
        "margin": _margin(scores["accuracy"], len(predictions.texts)),
        "commonest": {"label": names[int(counts.argmax())], "share": float(counts.max() / counts.sum())},
        "confusion": table,
        "confused": confused(table),
        "wrong": [
            _example(
                predictions,
                row,
                names[int(predictions.truth[row])],
                names[int(predicted[row])],
                float(shares[row, predicted[row]]),
            )
            for row in worst.tolist()
        ],
    }


def confused(table: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """The pairs of classes that are confused, most frequent first."""
    pairs: list[dict[str, Any]] = [
        {"label": true, "predicted": taken, "rows": rows}
        for true, row in table.items()
        for taken, rows in row.items()
        if rows and taken != true
    ]
    return sorted(pairs, key=lambda pair: -pair["rows"])[:_CONFUSED]


def _multi_label(predictions: Predictions) -> dict[str, Any]:
    names = predictions.labels.names
    shares = probabilities(predictions.logits, MULTI)
    threshold = predictions.labels.threshold
    predicted = decisions(predictions.logits, MULTI, threshold)
    truth = (np.asarray(predictions.truth) > 0.5).astype(np.int64)
    scores = metrics.multi_label_metrics(predictions.logits, truth, names, threshold)
    # By row, the distance of wrongly decided probabilities from the truth.
    off = np.where(predicted != truth, np.abs(shares - truth), 0.0).sum(axis=1)
    worst = [row for row in np.argsort(-off, kind="stable")[:EXAMPLES].tolist() if off[row] > 0]

    def listed(row: np.ndarray) -> list[str]:
        return [name for name, flag in zip(names, row, strict=True) if flag]

    def scored(row: int) -> dict[str, float]:
        return {name: float(shares[row, index]) for index, name in enumerate(names) if predicted[row, index]}

    return {
        "f1_micro": scores["f1_micro"],
        "f1_macro": scores["f1_macro_average"],
        "exact": float((predicted == truth).all(axis=1).mean()),
        "threshold": thresholds.stated(threshold, names),
        "labels": [
            {
                "label": name,
                "rows": int(truth[:, index].sum()),
                **{metric: scores[f"{metric}_{name}"] for metric in ("precision", "recall", "f1")},
            }
            for index, name in enumerate(names)
        ],
        "wrong": [
            _example(predictions, row, listed(truth[row]), listed(predicted[row]), scored(row))
            for row in worst
        ],
    }


def _regression(predictions: Predictions) -> dict[str, Any]:
    predicted = decisions(predictions.logits, REGRESSION).astype(np.float64)
    truth = np.asarray(predictions.truth, dtype=np.float64)
    off = np.abs(predicted - truth)
    return {
        **metrics.regression_metrics(predicted, truth),
        "mae": float(off.mean()),
        # The error of always predicting the median: the baseline.
        "mae_of_median": float(np.abs(truth - np.median(truth)).mean()),
        "range": [float(truth.min()), float(truth.max())],
        "wrong": [
            _example(predictions, row, float(truth[row]), float(predicted[row]), float(off[row]))
            for row in np.argsort(-off, kind="stable")[:EXAMPLES].tolist()
        ],
    }


def _margin(share: float, rows: int) -> float:
    """The distance of a share of `rows` from the farther end of its 95 % interval (Wilson, 1927)."""
    z = 1.96
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return half + abs(centre - share)
