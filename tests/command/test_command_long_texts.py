"""Training on windows of long texts: what is learned, scored, predicted, exported and served is of whole texts."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Pipeline
from resparse.long_texts import LongTexts
from sparseml.data.long_texts import by_document, counts
from sparseml.options.table import ArgumentError
from sparseml.transformers import eval_downstream, export, text_classification
from support import tiny

TOKENS, STRIDE = 16, 4


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Every other text is long, and the word that decides stands at its end."""
    source = random.Random(seed)
    made = tiny.rows(count, seed)
    for row in made[::2]:
        row["text"] = " ".join([*source.choices(tiny.PLAIN, k=source.randint(15, 40)), row["text"]])
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("long_texts")
    for name, count, seed in (("train", 32, 0), ("validation", 12, 1), ("test", 10, 2)):
        tiny.write(place / f"{name}.csv", rows(count, seed))
    return place


@pytest.fixture(scope="module")
def trained(
    folder: Path, pruned_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A model trained on windows with a teacher of another vocabulary, and its report; exported beside it."""
    teacher = tiny.bert(folder / "teacher", names=["negative", "positive"], words=[*tiny.WORDS, "more"])
    report = tiny.train(
        pruned_model,
        folder,
        folder / "model",
        recipe=tiny.RECIPE + tiny.DISTILLATION,
        distill_teacher=teacher,
        test_file=folder / "test.csv",
        do_eval=True,
        do_predict=True,
        eval_strategy="epoch",
        long_texts="windows",
        window_stride=STRIDE,
        window_pooling="max",
        max_seq_length=TOKENS,
        recipe_args="num_epochs=1,qat_start_epoch=0,observer_epoch=1",
    )
    export.main([str(folder / "model")])
    return folder / "model", report


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".txt" else ","))


def test_rows_are_counted_and_settings_kept(trained: tuple[Path, dict[str, Any]]) -> None:
    model, report = trained
    said = report["data"]["long_texts"]
    assert (said["tokens"], said["read"]) == (TOKENS, "windows")
    for split in ("train", "validation", "test"):
        assert said[split]["rows"] == report["data"]["rows"][split]
        texts = [row["text"].split() for row in read(model.parent / f"{split}.csv")]
        assert said[split]["longer"] == sum(len(words) + 2 > TOKENS for words in texts) > 0
        assert said[split]["unread"] == 0
    settings = LongTexts("windows", STRIDE, "max", length=TOKENS).stated()
    for config in (model / "config.json", model.parent / "deployment" / "config.json"):
        assert json.loads(config.read_text())["long_texts"] == settings


def test_predictions_and_metrics_are_of_texts_as_deployed(
    trained: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    model, report = trained
    deployed = Pipeline.create(model_path=model.parent / "deployment")
    assert deployed.sequence_length == TOKENS
    for split, metric in (("test", "predict_accuracy"), ("validation", "eval_accuracy")):
        given = read(model.parent / f"{split}.csv")
        labels = deployed([row["text"] for row in given]).labels
        right = sum(label == row["label"] for label, row in zip(labels, given, strict=True))
        assert report["metrics"][metric] == pytest.approx(right / len(given))
    predicted = read(model / "predict_results.txt")
    logits = deployed.logits([row["text"] for row in read(model.parent / "test.csv")])
    shares = deployed.handler.label_set.scores(logits)
    assert len(predicted) == 10
    found = [[float(row[f"probability_{name}"]) for name in deployed.labels] for row in predicted]
    np.testing.assert_allclose(found, shares, atol=0.02)
    eval_downstream.main([str(model.parent / "deployment"), "-d", str(model.parent / "validation.csv")])
    assert f"accuracy: {report['metrics']['eval_accuracy']:.4f}" in capsys.readouterr().out


def test_the_export_is_proved_on_whole_texts(trained: tuple[Path, dict[str, Any]]) -> None:
    model, report = trained
    proof = json.loads((model.parent / "deployment" / "report.json").read_text())["export"]["verification"]
    assert (proof["window"], proof["read"], proof["rows"]) == (TOKENS, "windows", 12)
    assert proof["longer"] == report["data"]["long_texts"]["validation"]["longer"]
    assert proof["label_agreement"] == 1.0


def test_a_mere_evaluation_reads_as_was_trained(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, report = trained
    asked = {"model_name_or_path": str(model), "validation_file": str(model.parent / "validation.csv")}
    found = text_classification.main(**asked, do_eval=True, output_dir=str(tmp_path / "again"))
    assert found["metrics"]["eval_accuracy"] == report["metrics"]["eval_accuracy"]
    assert "and are read in windows" in capsys.readouterr().err
    first = text_classification.main(
        **asked, do_eval=True, output_dir=str(tmp_path / "first"), long_texts="first", max_seq_length=TOKENS
    )
    assert first["data"]["long_texts"]["read"] == "first"
    assert first["data"]["long_texts"]["validation"]["unread"] > 0
    assert "--long_texts windows" in capsys.readouterr().err


def test_windows_of_a_text_hold_its_label_and_pool_in_its_order() -> None:
    from datasets import Dataset

    columns = {"document": [2, 0, 1, 0, 2, 2], "longer": [True, True, False, True, True, True]}
    shuffled = Dataset.from_dict({**columns, "unread": [True, False, False, False, True, True]})
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    expected = [values[[1, 3]], values[[2]], values[[0, 4, 5]]]
    for pooling in ("mean", "max"):
        pooled = [getattr(part, pooling)(axis=0) for part in expected]
        np.testing.assert_allclose(by_document(values, shuffled, pooling), pooled)
    assert by_document(np.asarray([7, 5, 6, 5, 7, 7]), shuffled, "first").tolist() == [5, 6, 7]
    assert counts(shuffled) == {"rows": 3, "longer": 2, "unread": 1}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"window_stride": -1}, "--window_stride -1"),
        ({"max_windows": 0}, "--max_windows 0"),
        ({"long_texts": "all"}, "--long_texts 'all'"),
        ({"long_texts": "windows", "pad_to_max_length": True}, "--pad_to_max_length"),
        ({"long_texts": "windows", "window_stride": 32}, "--window_stride 32"),
    ],
)
def test_arguments_that_make_no_sense(
    folder: Path, pruned_model: Path, tmp_path: Path, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        tiny.train(pruned_model, folder, tmp_path / "out", do_eval=True, **asked)
