"""A model of several labels gives each text those above its threshold, wherever it is asked."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepsparse import EngineError, ModelError, Pipeline
from deepsparse.tasks.label_set import LabelSet, sigmoid
from sparseml.cli import main
from support.deployment import NAMES, deployment, logits, weights

MULTI = "multi_label_classification"
TEXTS = ["happy", "furious sad film", "the film", "happy sad", "a very furious day"]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of texts that say nothing, no label counts."""
    values = weights()
    values["bias"] = np.full(len(NAMES), -2, np.float32)
    folder = tmp_path_factory.mktemp("several") / "deployment"
    return deployment(folder, values=values, problem_type=MULTI, multi_label_threshold=0.4)


def expected(threshold: float | dict[str, float] = 0.4) -> list[list[str]]:
    """By NumPy, best first; labels that are not named have 0.4."""
    by_label = threshold if isinstance(threshold, dict) else dict.fromkeys(NAMES, threshold)
    found = []
    for text in TEXTS:
        scores = sigmoid(logits(weights(), text) - 2)
        order = np.argsort(-scores, kind="stable")
        found.append([NAMES[index] for index in order if scores[index] > by_label.get(NAMES[index], 0.4)])
    return found


@given(
    arrays(np.float32, (4, 3), elements=st.floats(-30, 30, width=32)),
    st.floats(0.01, 0.99),
)
def test_those_above_the_threshold_best_first(values: np.ndarray, threshold: float) -> None:
    for row, found in zip(values, LabelSet(NAMES, MULTI, threshold).above(values), strict=True):
        scores = sigmoid(row)
        assert set(found.labels) == {
            name for name, score in zip(NAMES, scores, strict=True) if score > threshold
        }
        assert found.scores == sorted(found.scores, reverse=True)


def test_pipeline(several: Path) -> None:
    classify = Pipeline.create(model_path=several)
    found = classify(TEXTS)
    assert found.labels == expected()
    assert [] in found.labels and any(len(labels) > 1 for labels in found.labels)
    assert [len(scores) for scores in found.scores] == [len(labels) for labels in found.labels]
    assert classify.predict("the film")[0].label is None
    assert Pipeline.create(model_path=several, threshold=0.2)(TEXTS).labels == expected(0.2)
    assert Pipeline.create(model_path=several, top_k=1)(TEXTS).labels[0] == "joy"
    assert Pipeline.create(model_path=several, return_all_scores=True)("happy").labels[0][0] == "joy"


def test_file(several: Path, tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("text\n" + "\n".join(TEXTS) + "\n")
    for more, threshold in (([], 0.4), (["--threshold", "0.2", "--overwrite"], 0.2)):
        words = ["predict", str(several), "--input", str(rows), "--output", str(output), *more]
        assert main(words) == 0
        with output.open(newline="") as file:
            assert [row["predicted_labels"] for row in csv.DictReader(file)] == [
                ",".join(labels) for labels in expected(threshold)
            ]


def test_server(several: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from deepsparse.server.app import create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints
    from deepsparse.server.service import Server

    endpoints = [
        {"task": "text_classification", "model": str(several), "name": "a"},
        {"task": "text_classification", "model": str(several), "name": "b", "kwargs": {"threshold": 0.2}},
    ]
    config = parse_config({"endpoints": endpoints}, "test")
    with TestClient(create_app(Server(Endpoints(config), config))) as client:
        for name, threshold in (("a", 0.4), ("b", 0.2)):
            answer = client.post(f"/v2/models/{name}/infer", json={"sequences": TEXTS})
            assert answer.json()["labels"] == expected(threshold)
            assert client.get(f"/v2/models/{name}").json()["threshold"] == threshold
        for threshold in (0.2, 0.9, {"joy": 0.9, "sadness": 0.1}):
            answer = client.post("/v2/models/a/infer", json={"sequences": TEXTS, "threshold": threshold})
            assert answer.json()["labels"] == expected(threshold)
        for threshold, part in (
            (0, "probability"),
            ("0.5", "probability"),
            ({"joi": 0.5}, "'joy'"),
            ({}, "object"),
        ):
            answer = client.post("/v2/models/a/infer", json={"sequences": TEXTS, "threshold": threshold})
            assert answer.status_code == 422 and part in answer.json()["detail"]
        best = client.post("/v2/models/a/infer", json={"sequences": "the film", "top_k": 1}).json()
        assert len(best["labels"]) == 1


@pytest.mark.parametrize("threshold", [0, 1, 1.5, "0.5", True, float("nan")])
def test_a_threshold_that_is_none(several: Path, tmp_path: Path, threshold: Any) -> None:
    with pytest.raises(EngineError, match="probability between 0 and 1"):
        Pipeline.create(model_path=several, threshold=threshold)
    if isinstance(threshold, str) or threshold in (0, 1.5):
        wrong = deployment(tmp_path / "wrong", problem_type=MULTI, multi_label_threshold=threshold)
        with pytest.raises(ModelError, match=r"config\.json: multi_label_threshold"):
            Pipeline.create(model_path=wrong)


def test_each_label_has_a_threshold_of_its_own(tmp_path: Path) -> None:
    """In the configuration, in the order of the labels whatever its own; and a pipeline may change some of them."""
    values = weights()
    values["bias"] = np.full(len(NAMES), -2, np.float32)
    own = {"sadness": 0.1, "anger": 0.4, "joy": 0.9}
    folder = deployment(tmp_path / "own", values=values, problem_type=MULTI, multi_label_threshold=own)
    classify = Pipeline.create(model_path=folder)
    assert classify.threshold == own == classify.describe()["threshold"]
    assert classify(TEXTS).labels == expected(own) != expected()
    changed = Pipeline.create(model_path=folder, threshold={"joy": 0.4})
    assert changed(TEXTS).labels == expected({**own, "joy": 0.4}) != expected(own)
    assert Pipeline.create(model_path=folder, threshold=0.4)(TEXTS).labels == expected()
    wrong = deployment(tmp_path / "wrong", problem_type=MULTI, multi_label_threshold={"jo": 0.5})
    with pytest.raises(ModelError, match="'joy'"):
        Pipeline.create(model_path=wrong)


def test_labels_that_exclude_each_other_have_none(deployed: Path) -> None:
    with pytest.raises(EngineError, match="gives every text one label"):
        Pipeline.create(model_path=deployed, threshold=0.5)


def test_without_a_threshold_in_the_configuration_it_is_that_of_training(tmp_path: Path) -> None:
    folder = deployment(tmp_path / "older", problem_type=MULTI)
    assert "multi_label_threshold" not in json.loads((folder / "config.json").read_text())
    assert Pipeline.create(model_path=folder).threshold == 0.3
