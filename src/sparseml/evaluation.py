"""What evaluated rows say of a classifier beyond its metrics: confusions and calibration, for report.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from resparse.arrays import Array
from resparse.calibration import negative_log_likelihood
from sparseml.data.label_encoding import MULTI, REGRESSION, Kind, Labels
from sparseml.decisions import decisions, probabilities
from sparseml.metrics import confusion
from sparseml.selective import coverage_curve

BINS = 15
"""Bins of confidence, as in Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv:1706.04599)."""

_SCORE_BINS = 10


def evaluation(logits: Array, truth: Array, labels: Labels) -> dict[str, Any]:
    """Facts about a model's outputs, ready for JSON.

    Args:
        logits: [rows, labels].
        truth: [rows] class ids or scores; [rows, labels] of 0 and 1 for several labels.

    Returns:
        kind and rows; "calibration", where there is a temperature with "before" it; and "confusion"
        {true: {predicted: rows}} without zeros and "coverage" by lowest score for one label a row, or "labels"
        {name: {right, missed, wrong}} for several.
    """
    found: dict[str, Any] = {"kind": labels.kind, "rows": len(truth)}
    if not np.isfinite(logits).all():  # a training that diverged
        return found
    if labels.kind == REGRESSION:
        found["calibration"] = {"bins": score_bins(decisions(logits, REGRESSION), truth)}
        return found
    scaled = labels.confidence.scaled(logits)
    predicted = decisions(scaled, labels.kind, labels.threshold)
    found["calibration"] = _reliability(scaled, truth, labels.kind)
    if labels.confidence.temperature != 1:
        found["calibration"] |= {
            "temperature": labels.confidence.temperature,
            "before": _reliability(logits, truth, labels.kind),
        }
    if labels.kind == MULTI:
        found["labels"] = _by_label(np.asarray(truth) > 0.5, predicted.astype(bool), labels)
    else:
        table = confusion(truth, predicted, labels.names)
        found["confusion"] = {
            name: {taken: rows for taken, rows in row.items() if rows} for name, row in table.items()
        }
        found["coverage"] = coverage_curve(logits, truth, labels)
    return found


def _reliability(logits: Array, truth: Array, kind: Kind) -> dict[str, Any]:
    """The reliability diagram of logits, and their negative log-likelihood."""
    found = calibration(*confidences(logits, truth, kind))
    return {**found, "nll": negative_log_likelihood(logits, np.asarray(truth))}


def confidences(logits: Array, truth: Array, kind: Kind) -> tuple[Array, Array]:
    """The probability of each decision, and whether it is right: [decisions] each.

    For one label a row, of the predicted class; for several, of each label, and whether the row has it.
    """
    shares = probabilities(logits, kind)
    if kind == MULTI:
        return shares.reshape(-1), (np.asarray(truth) > 0.5).reshape(-1)
    return shares.max(axis=-1), shares.argmax(axis=-1) == np.asarray(truth)


def calibration(confidence: Array, right: Array, bins: int = BINS) -> dict[str, Any]:
    """A reliability diagram, and its expected calibration error.

    Args:
        confidence: [decisions], from 0 to 1.
        right: [decisions], whether each came true.
        bins: number of equal parts of [0, 1]; a confidence on an edge belongs to the lower part.

    Returns:
        "bins" that are not empty: mean "predicted" confidence, "actual" share that came true, "rows"; and "ece", the
        mean distance of the two over decisions (Naeini et al. 2015; Guo et al. 2017, equation 3).
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    listed = [_bin(confidence[place == index], right[place == index]) for index in np.unique(place)]
    total = max(len(confidence), 1)
    error = sum(entry["rows"] * abs(entry["predicted"] - entry["actual"]) for entry in listed) / total
    return {"bins": listed, "ece": error}


def score_bins(scores: Array, truth: Array, bins: int = _SCORE_BINS) -> list[dict[str, Any]]:
    """Rows in the order of their predicted score [rows], in parts of equal size: mean prediction and mean truth."""
    order = np.argsort(scores, kind="stable")
    parts = (part for part in np.array_split(order, bins) if len(part))
    return [_bin(np.asarray(scores)[part], np.asarray(truth)[part]) for part in parts]


def _bin(predicted: Array, actual: Array) -> dict[str, Any]:
    return {"predicted": float(predicted.mean()), "actual": float(actual.mean()), "rows": len(actual)}


def _by_label(truth: Array, predicted: Array, labels: Labels) -> dict[str, dict[str, int]]:
    """By label: rows that have it and were found, that have it and were missed, and that do not have it."""
    counts = [(truth & predicted).sum(0), (truth & ~predicted).sum(0), (~truth & predicted).sum(0)]
    return {
        name: {
            key: int(count[index]) for key, count in zip(("right", "missed", "wrong"), counts, strict=True)
        }
        for index, name in enumerate(labels.names)
    }
