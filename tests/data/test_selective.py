"""Coverage, and texts out of scope: by hand, by counting, and at the ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resparse.confidence import REFUSED, Confidence
from sparseml.data.label_encoding import SINGLE, Labels
from sparseml.metrics import metrics_for
from sparseml.selective import coverage_curve, decided, selective_metrics

LABELS = Labels(SINGLE, ("a", "b"), confidence=Confidence(min_score=0.8, out_of_scope_label="other"))
# Scores of the best: 0.98, 0.73, 0.98, 0.73, 0.98; the last two are out of scope.
LOGITS = np.array([[4.0, 0.0], [0.0, 1.0], [0.0, 4.0], [1.0, 0.0], [4.0, 0.0]])
TRUTH = np.array([0, 1, 0, 2, 2])


def test_by_hand() -> None:
    assert decided(LOGITS, LABELS).tolist() == [0, REFUSED, 1, REFUSED, 0]
    assert selective_metrics(LOGITS, TRUTH, LABELS) == {
        "coverage": pytest.approx(2 / 3),
        "accuracy_covered": 0.5,
        "in_scope_accuracy": pytest.approx(1 / 3),
        "out_of_scope_recall": 0.5,
        "out_of_scope_precision": 0.5,
    }


def test_a_trained_class_may_be_the_out_of_scope_label() -> None:
    """Rows below the lowest score are of it, and those that the model takes for it."""
    labels = Labels(SINGLE, ("a", "other"), confidence=replace(LABELS.confidence, min_score=0.8))
    truth = np.array([0, 1, 0, 1, 0])
    assert decided(LOGITS, labels).tolist() == [0, 1, 1, 1, 0]
    found = selective_metrics(LOGITS, truth, labels)
    assert found["out_of_scope_recall"] == 1 and found["out_of_scope_precision"] == pytest.approx(2 / 3)
    without = replace(labels, confidence=Confidence(out_of_scope_label="other"))
    assert selective_metrics(LOGITS, truth, without)["out_of_scope_recall"] == 0.5


def test_metrics_of_rows_in_scope_are_those_of_every_model() -> None:
    class Evaluation:
        predictions, label_ids = LOGITS, TRUTH

    found = metrics_for(None, LABELS)(Evaluation())
    assert found["accuracy"] == pytest.approx(2 / 3) and found["out_of_scope_recall"] == 0.5


def test_a_model_that_always_answers_has_none_of_it() -> None:
    assert selective_metrics(LOGITS, TRUTH, Labels(SINGLE, ("a", "b"))) == {}


@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_the_curve_is_the_metrics_at_each_lowest_score(seed: int, temperature: float) -> None:
    source = np.random.default_rng(seed)
    logits, truth = source.normal(0, 2, (40, 2)), source.integers(0, 2, 40)
    labels = replace(LABELS, confidence=Confidence(temperature))
    curve = coverage_curve(logits, truth, labels)
    assert curve[0] == {
        "min_score": 0.0,
        "coverage": 1.0,
        "accuracy": float((logits.argmax(1) == truth).mean()),
    }
    for entry in curve:
        confidence = replace(labels.confidence, min_score=entry["min_score"])
        found = selective_metrics(logits, truth, replace(labels, confidence=confidence))
        assert (found["coverage"], found["accuracy_covered"]) == (entry["coverage"], entry["accuracy"])
