"""How right a classifier is where it answers, how often it does, and what it makes of texts out of its scope."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from resparse.arrays import Array
from resparse.confidence import REFUSED
from sparseml.data.label_encoding import SINGLE, Labels
from sparseml.decisions import probabilities

CURVE: Final = tuple(round(0.05 * step, 2) for step in range(20))
"""The lowest scores of a coverage curve."""


def decided(logits: Array, labels: Labels) -> Array:
    """The class ids [rows] of logits [rows, labels], of labels that exclude each other, as they are deployed.

    Rows below the lowest score have the id of the out-of-scope label where that is a class, else REFUSED.
    """
    shares = probabilities(labels.confidence.scaled(logits), SINGLE)
    refused = labels.confidence.refuses(shares.max(axis=1))
    return np.where(refused, _refused_id(labels), shares.argmax(axis=1))


def selective_metrics(logits: Array, truth: Array, labels: Labels) -> dict[str, float]:
    """Metrics of a classifier that may give no label; {} of one that always gives one of its subject's.

    Args:
        logits: [rows, labels].
        truth: [rows] class ids; `labels.num_labels` stands for texts out of scope, where that is no class.

    Returns:
        Of rows in scope: "coverage", the share that gets a label of its subject; "accuracy_covered", how many of these
        are right (the two of selective classification, Geifman and El-Yaniv 2017); "in_scope_accuracy", how many of all
        are. Where rows out of scope are there, too: "out_of_scope_recall", how many of these are refused, and
        "out_of_scope_precision", how many of the refused are such. The last but one and the one before it are the
        measures of CLINC150 (Larson et al. 2019, An Evaluation Dataset for Intent Classification and Out-of-Scope
        Prediction).
    """
    unknown = outside_id(labels)
    if labels.confidence.min_score is None and unknown == labels.num_labels:
        return {}
    truth, answers = np.asarray(truth), decided(logits, labels)
    refused = (answers == REFUSED) | (answers == unknown)
    inside = truth != unknown
    right = answers == truth
    found = {
        "coverage": _share(~refused[inside]),
        "accuracy_covered": _share(right[inside & ~refused]),
        "in_scope_accuracy": _share(right[inside]),
    }
    if not inside.all():
        found["out_of_scope_recall"] = _share(refused[~inside])
        found["out_of_scope_precision"] = _share(~inside[refused])
    return found


def coverage_curve(logits: Array, truth: Array, labels: Labels) -> list[dict[str, Any]]:
    """Coverage and accuracy of the covered rows by lowest score, to choose one by; without those that cover nothing."""
    shares = probabilities(labels.confidence.scaled(logits), SINGLE)
    best, right = shares.max(axis=1), shares.argmax(axis=1) == np.asarray(truth)
    return [
        {"min_score": least, "coverage": _share(best >= least), "accuracy": _share(right[best >= least])}
        for least in CURVE
        if (best >= least).any()
    ]


def outside_id(labels: Labels) -> int:
    """The id of rows out of scope: of the class where it is trained, else the number of classes."""
    name = labels.confidence.out_of_scope_label
    return labels.num_labels if name is None else labels.label2id.get(name, labels.num_labels)


def _refused_id(labels: Labels) -> int:
    unknown = outside_id(labels)
    return unknown if unknown < labels.num_labels else REFUSED


def _share(flags: Array) -> float:
    return float(np.mean(flags)) if len(flags) else 0.0
