"""What a trained classifier decides by, fitted to rows that it has not learned from: a temperature, and thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from resparse import thresholds
from resparse.arrays import Array
from resparse.calibration import fit_temperature, negative_log_likelihood
from resparse.confidence import KEYS
from resparse.threshold_search import best_thresholds
from sparseml.data.label_encoding import MULTI, REGRESSION, Labels
from sparseml.data.rows import rows_text
from sparseml.decisions import probabilities
from sparseml.evaluation import calibration, confidences
from sparseml.metrics import multi_label_metrics

LEAST_ROWS: Final = 50
"""Of fewer, a temperature would be chance: its standard error is about a tenth of it with a few hundred decisions."""

LEAST_ROWS_BY_LABEL: Final = 200
"""A guided run looks for thresholds by label in no fewer rows: it would find what suits these alone."""

TEMPERATURE: Final = "temperature"
"""What `--calibration` is given for it."""


@dataclass(frozen=True)
class Fitted:
    """Labels with what was fitted, facts about it for report.json, and notes for the screen."""

    labels: Labels
    facts: dict[str, Any]
    notes: list[str]


def fit(logits: Array, truth: Array, labels: Labels, *, temperature: bool, by_label: bool) -> Fitted:
    """Fit what is asked for.

    Args:
        logits: [rows, labels], of the model as it is deployed.
        truth: [rows] class ids; [rows, labels] of 0 and 1 for several labels.
        temperature: find the temperature anew; else it stays.
        by_label: find a threshold for each of several labels, on the calibrated scores.
    """
    if labels.kind == REGRESSION:
        return Fitted(labels, {}, ["calibration: has no effect on a score that is no probability"])
    if not np.isfinite(logits).all():
        return Fitted(labels, {}, ["calibration: none, since the model's outputs are not finite"])
    truth = np.asarray(truth)
    facts: dict[str, Any] = {}
    notes: list[str] = []
    if temperature:
        labels, facts["temperature"], notes = _with_temperature(logits, truth, labels)
    if by_label and labels.kind != MULTI:
        notes.append(f"--{thresholds.KEY} has no effect: every row has one label")
    elif by_label:
        labels, facts["thresholds"], note = _with_thresholds(logits, truth, labels)
        notes.append(note)
    return Fitted(labels, {"rows": len(truth), **facts}, notes)


def _with_temperature(
    logits: Array, truth: Array, labels: Labels
) -> tuple[Labels, dict[str, Any], list[str]]:
    before = quality(logits, truth, replace(labels, confidence=replace(labels.confidence, temperature=1.0)))
    found = fit_temperature(logits, truth) if len(truth) >= LEAST_ROWS else None
    changed = replace(labels, confidence=replace(labels.confidence, temperature=found or 1.0))
    after = quality(logits, truth, changed)
    facts = {"value": found, "before": before, "after": after}
    if found is None:
        few = len(truth) < LEAST_ROWS
        why = (
            f"{rows_text(len(truth))} to validate on are too few"
            if few
            else "on the validation rows no temperature is better than all others"
        )
        return changed, facts, [f"calibration: none, since {why}; probabilities stay as they are"]
    return (
        changed,
        facts,
        [
            f"calibration: temperature {found:.3g}, by {rows_text(len(truth))}; expected calibration error "
            f"{before['ece']:.1%} before, {after['ece']:.1%} after"
        ],
    )


def _with_thresholds(logits: Array, truth: Array, labels: Labels) -> tuple[Labels, dict[str, Any], str]:
    scaled = labels.confidence.scaled(logits)
    own = best_thresholds(probabilities(scaled, MULTI), truth, thresholds.DEFAULT)
    before, after = (
        multi_label_metrics(scaled, truth, labels.names, threshold) for threshold in (thresholds.DEFAULT, own)
    )
    kept = ("f1_macro_average", "f1_micro")
    facts = {
        "before": {"threshold": thresholds.DEFAULT, **{name: before[name] for name in kept}},
        "after": {name: after[name] for name in kept},
    }
    note = (
        f"thresholds: from {min(own):.2f} to {max(own):.2f} by label, with the greatest F1 on {rows_text(len(truth))}; "
        f"mean F1 of labels {before[kept[0]]:.1%} with {thresholds.DEFAULT:g} for all, {after[kept[0]]:.1%} with these"
    )
    return replace(labels, threshold=own), facts, note


def entries(labels: Labels) -> dict[str, Any]:
    """What a config.json says of how these labels are decided; None where an older entry is to go."""
    several = (
        {thresholds.KEY: thresholds.stated(labels.threshold, labels.names)} if labels.kind == MULTI else {}
    )
    return {**dict.fromkeys(KEYS), **labels.confidence.entries(), **several}


def quality(logits: Array, truth: Array, labels: Labels) -> dict[str, float]:
    """How well probabilities come true: expected calibration error, and mean negative log-likelihood."""
    scaled = labels.confidence.scaled(logits)
    return {
        "ece": calibration(*confidences(scaled, truth, labels.kind))["ece"],
        "nll": negative_log_likelihood(logits, truth, labels.confidence.temperature),
    }
