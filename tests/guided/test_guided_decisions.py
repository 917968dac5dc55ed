"""What a guided run learns and decides by: weights by the counts, a temperature and thresholds by validation rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Labels
from sparseml.guided.summary_text import lines
from sparseml.tasks import load_task
from support.trainers import classifier

NAMES = ("anger", "joy", "optimism")
TRUTH = [0] * 60 + [1] * 30 + [2] * 10
TASK: Any = load_task()


def data(truth: list[Any], validation: int) -> Any:
    return SimpleNamespace(train={"labels": truth}, validation=None if not validation else range(validation))


def chosen(kind: Any, truth: list[Any], validation: int, **given: Any) -> tuple[Any, list[str]]:
    asked = TASK.arguments(**given)
    return asked, TASK.choose(data(truth, validation), Labels(kind, NAMES), asked, given.keys())


def test_weights_by_the_counts_and_a_temperature_by_the_rows() -> None:
    asked, notes = chosen(SINGLE, TRUTH, 60)
    assert (asked.class_weights, asked.calibration) == ("balanced", "temperature")
    assert "anger has 60 rows and optimism 10" in notes[0] and "--class_weights none" in notes[0]
    asked, notes = chosen(SINGLE, TRUTH[:90:2] + TRUTH[60:90], 20)
    assert (asked.calibration, asked.multi_label_threshold) == (None, None)


def test_what_is_given_stays() -> None:
    asked, notes = chosen(SINGLE, TRUTH, 60, class_weights="none", calibration="none")
    assert (asked.class_weights, asked.calibration, notes) == ("none", "none", [])
    assert chosen(SINGLE, TRUTH, 60, eval_on_test=True)[0].calibration is None
    assert (
        chosen(MULTI, np.eye(3)[TRUTH].tolist(), 400, multi_label_threshold=0.5)[0].multi_label_threshold
        == 0.5
    )


def test_thresholds_of_several_labels_take_more_rows() -> None:
    flags = np.eye(3)[TRUTH].tolist()
    assert chosen(MULTI, flags, 400)[0].multi_label_threshold == "validation"
    assert chosen(MULTI, flags, 100)[0].multi_label_threshold is None
    assert chosen(MULTI, flags, 400)[0].class_weights == "none"
    scores = TASK.arguments()
    assert TASK.choose(data([0.5, 1.5], 400), Labels(REGRESSION, ("score",)), scores, ()) == []
    assert scores.calibration is None


@pytest.mark.parametrize("kind", [SINGLE, MULTI])
def test_the_head_begins_where_weighted_classes_are_alike(kind: Any) -> None:
    """Shares times weights: with balanced ones all classes, and each label and its absence, are as likely."""
    model, labels = classifier(kind), Labels(kind, NAMES)
    truth = TRUTH if kind == SINGLE else np.eye(3)[TRUTH].tolist()
    rows, new = data(truth, 0), ["classifier.weight", "classifier.bias"]
    assert TASK.initialize_head(model, new, rows, labels)
    before = model.classifier.bias.detach().clone()
    TASK.balance_head(model, new, rows, labels, TASK.arguments(class_weights="none"))
    assert torch.equal(model.classifier.bias, before) and before.std() > 0.3
    TASK.balance_head(model, new, rows, labels, TASK.arguments(class_weights="balanced"))
    bias = model.classifier.bias.detach()
    if kind == SINGLE:
        bias = bias - bias.mean()
    assert bias.abs().max() < 1e-5


def test_the_summary_says_how_honest_it_is(tmp_path: Path) -> None:
    facts = {
        "name": "rows",
        "train_rows": 90,
        "rows_called": "validation, which it did not learn from",
        "calibration": {
            "temperature": {"value": 1.5, "before": {"ece": 0.1}, "after": {"ece": 0.03}},
            "thresholds": {},
        },
        "answers": {
            **{
                "kind": MULTI,
                "rows": 4,
                "f1_micro": 0.5,
                "f1_macro": 0.5,
                "exact": 0.5,
                "threshold": {"a": 0.2},
            },
            **{"labels": [{"label": "a", "rows": 2, "precision": 1, "recall": 1, "f1": 1}], "wrong": []},
            "learned": True,
        },
        "size": {"dense_bytes": 9, "stored_bytes": 2, "compressed_bytes": 1},
        "speed": {"median_ms": 1.0, "texts_per_second": 2.0, "engine": "native", "cores": 1, "cpu": "C"},
        "check": {"rows": 4, "label_agreement": 1.0},
        "next": {},
    }
    text = "\n".join(lines(facts))
    assert "3.0% off how often it comes true" in text and "10.0% before" in text
    assert "expect a little less of others" in text
    text = "\n".join(lines({**facts, "rows_called": "the test rows"}))
    assert "greatest F1 on the validation rows" in text and "expect a little less" not in text
