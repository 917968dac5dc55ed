"""A temperature, a lowest score and an out-of-scope label: wherever a model is asked, and wherever they may be said."""

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
from deepsparse.tasks.label_set import LabelSet, sigmoid, softmax
from resparse.confidence import Confidence
from sparseml.cli import main
from support.deployment import NAMES, deployment, logits, weights

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
TEXTS = ["happy", "furious sad film", "the film", "a very furious day"]
LEAST = 0.5


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At this temperature it is sure of one emotion alone, and not of none or two."""
    folder = tmp_path_factory.mktemp("unsure") / "deployment"
    return deployment(folder, calibration_temperature=4.0, min_score=LEAST, out_of_scope_label="other")


def expected(temperature: float = 4.0, least: float = LEAST, other: str | None = "other") -> list[Any]:
    """Labels and scores by NumPy."""
    found = []
    for text in TEXTS:
        scores = softmax(logits(weights(), text) / temperature)
        best = int(scores.argmax())
        found.append(
            (NAMES[best] if scores[best] >= least else other, pytest.approx(float(scores[best]), 1e-4))
        )
    return found


def pairs(answer: Any) -> list[Any]:
    return list(zip(answer["labels"], answer["scores"], strict=True))


def test_pipeline(unsure: Path) -> None:
    classify = Pipeline.create(model_path=unsure)
    assert pairs(classify(TEXTS).model_dump()) == expected()
    given = {label for label, _ in expected()}
    assert "other" in given and len(given) > 1, "else nothing is shown"
    assert classify.min_score == LEAST
    assert {"min_score": LEAST, "out_of_scope_label": "other"}.items() <= classify.describe().items()
    for settings, least, other in (
        ({"min_score": 0.0}, 0.0, "other"),
        ({"min_score": 0.34}, 0.34, "other"),
        ({"out_of_scope_label": "none of these"}, LEAST, "none of these"),
    ):
        assert pairs(Pipeline.create(model_path=unsure, **settings)(TEXTS).model_dump()) == expected(
            least=least, other=other
        )


def test_without_a_name_there_is_no_label(tmp_path: Path) -> None:
    folder = deployment(tmp_path / "nameless", calibration_temperature=4.0, min_score=LEAST)
    found = Pipeline.create(model_path=folder)(TEXTS)
    assert pairs(found.model_dump()) == expected(other=None) and None in found.labels


def test_a_ranking_ends_where_labels_are_not_sure(unsure: Path) -> None:
    two = Pipeline.create(model_path=unsure, top_k=2, min_score=0.3)
    for text, labels in zip(TEXTS, two(TEXTS).labels, strict=True):
        scores = softmax(logits(weights(), text) / 4)
        above = [NAMES[index] for index in np.argsort(-scores)[:2] if scores[index] >= 0.3]
        assert labels == (above or ["other"])
    every = Pipeline.create(model_path=unsure, return_all_scores=True)
    assert all(len(labels) == len(NAMES) for labels in every(TEXTS).labels)


def test_file(unsure: Path, tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("text\n" + "\n".join(TEXTS) + "\n")
    for more, least, other in (
        ([], LEAST, "other"),
        (["--min-score", "0", "--overwrite"], 0.0, ""),
        (["--min-score", "0.34", "--out-of-scope-label", "new", "--overwrite"], 0.34, "new"),
    ):
        words = ["predict", str(unsure), "--input", str(rows), "--output", str(output), *more]
        assert main(words) == 0
        with output.open(newline="") as file:
            found = list(csv.DictReader(file))
        assert [row["predicted_label"] for row in found] == [
            label for label, _ in expected(least=least, other=other)
        ]
    assert main([*words, "--top-k", "3"]) == 0
    with output.open(newline="") as file:
        assert any(row["predicted_label_3"] == "" for row in csv.DictReader(file))


def test_server(unsure: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from deepsparse.server.app import create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints
    from deepsparse.server.service import Server

    endpoints = [
        {"task": "text_classification", "model": str(unsure), "name": "a"},
        {"task": "text_classification", "model": str(unsure), "name": "b", "kwargs": {"min_score": 0.34}},
    ]
    config = parse_config({"endpoints": endpoints}, "test")
    with TestClient(create_app(Server(Endpoints(config), config))) as client:

        def ask(name: str, **more: Any) -> Any:
            return client.post(f"/v2/models/{name}/infer", json={"sequences": TEXTS, **more})

        assert pairs(ask("a").json()) == expected()
        assert pairs(ask("b").json()) == expected(least=0.34)
        assert pairs(ask("a", min_score=0).json()) == expected(least=0.0)
        assert client.get("/v2/models/a").json()["min_score"] == LEAST
        # What the page asks: all labels, whatever their score.
        every = ask("a", top_k=3, min_score=0).json()
        assert all(len(labels) == 3 for labels in every["labels"])
        for wrong in (1, -0.1, "0.5", True):
            answer = ask("a", min_score=wrong)
            assert answer.status_code == 422 and "from 0 to below 1" in answer.json()["detail"]


@pytest.mark.parametrize("problem", [MULTI, "regression"])
def test_only_labels_that_exclude_each_other_have_a_lowest_score(tmp_path: Path, problem: str) -> None:
    folder = deployment(
        tmp_path / "other", problem_type=problem, names=NAMES if problem == MULTI else NAMES[:1]
    )
    with pytest.raises(EngineError, match="exclude each other"):
        Pipeline.create(model_path=folder, min_score=0.5)


def test_a_configuration_that_makes_no_sense(tmp_path: Path) -> None:
    wrong = deployment(tmp_path / "wrong", calibration_temperature=-1)
    with pytest.raises(ModelError, match=r"config\.json: calibration_temperature"):
        Pipeline.create(model_path=wrong)
    with pytest.raises(EngineError, match="out_of_scope_label"):
        Pipeline.create(model_path=deployment(tmp_path / "right"), out_of_scope_label="")


def test_an_older_deployment_answers_as_before(deployed: Path) -> None:
    config = json.loads((deployed / "config.json").read_text())
    assert not config.keys() & {"calibration_temperature", "min_score", "out_of_scope_label"}
    classify = Pipeline.create(model_path=deployed)
    raw = classify.logits(TEXTS)
    assert classify(TEXTS).scores == softmax(raw).max(axis=1).tolist()
    assert set(classify.describe()) == {"labels", "sequence_length", "top_k"}


@given(
    arrays(np.float32, (4, 3), elements=st.floats(-30, 30, width=32)),
    st.floats(0.1, 10),
    st.floats(0, 0.99),
)
def test_scores_at_a_temperature(values: np.ndarray, temperature: float, least: float) -> None:
    labels = LabelSet(NAMES, SINGLE, confidence=Confidence(temperature, least))
    for row, found in zip(values, labels.best(values, 1), strict=True):
        scores = softmax(row / temperature)
        assert found.score == pytest.approx(scores.max(), rel=1e-5)
        if found.score < least:
            assert found.label is None
        else:  # logits that differ by less than their rounding have one score
            assert scores[NAMES.index(str(found.label))] == pytest.approx(scores.max(), rel=1e-5)
    several = LabelSet(NAMES, MULTI, 0.5, Confidence(temperature))
    assert several.scores(values) == pytest.approx(sigmoid(values / temperature), rel=1e-5)
    alone = LabelSet(("score",), "regression", confidence=Confidence(temperature))
    assert (alone.scores(values[:, :1]) == values[:, :1]).all()
