"""Damaged and mismatched deployment folders: one clear message each, before anything is answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deepsparse import Engine, ModelError, Pipeline
from support.deployment import deployment, weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return deployment(tmp_path / "deployment")


def refused(source: Path | str, engine: str = "onnxruntime") -> str:
    with pytest.raises(ModelError) as caught:
        Pipeline.create("text_classification", source, engine_type=engine)
    return str(caught.value)


def configured(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_model(folder: Path, engine: str, kept: float):
    pytest.importorskip(engine)
    model = folder / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    message = refused(folder, engine)
    assert str(model) in message and "cut short" in message


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_missing_and_damaged_files(folder: Path, name: str):
    path = folder / name
    path.write_text(path.read_text()[:20])
    assert str(path) in refused(folder)
    path.unlink()
    message = refused(folder)
    assert str(path) in message and "missing" in message


def test_labels_that_do_not_match_the_logits(folder: Path):
    message = refused(configured(folder, id2label={"0": "no", "1": "yes"}))
    assert "2 labels (no, yes)" in message and "3 logits" in message


@pytest.mark.parametrize("labels", [{"0": "a", "2": "b"}, {"zero": "a"}, {}])
def test_labels_with_gaps(folder: Path, labels: dict[str, str]):
    assert "id2label" in refused(configured(folder, id2label=labels))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float, engine: str):
    pytest.importorskip(engine)
    values = weights()
    values["linear"][0, 0] = value
    assert "no finite number" in refused(deployment(tmp_path / "spoiled", values=values), engine)


def test_a_word_whose_embedding_is_nan_is_refused_when_it_comes(tmp_path: Path):
    values = weights()
    values["embedding"][6] = np.nan  # "happy"
    classify = Pipeline.create("glue", deployment(tmp_path / "spoiled", values=values))
    assert classify("sad").labels == ["sadness"]
    with pytest.raises(ModelError, match="row 1 "):
        classify(["sad", "happy"])


def test_checkpoints_empty_folders_and_wrong_names(tmp_path: Path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.safetensors").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.txt").touch()
    assert "export_onnx" in refused(tmp_path / "checkpoint")
    assert "nothing" in refused(tmp_path / "empty")
    assert str(tmp_path / "empty") in refused(tmp_path / "emty")
    assert ".onnx" in refused(tmp_path / "model.txt")


def test_an_engine_alone_says_what_it_takes(folder: Path):
    engine = Engine(folder, num_cores=1)
    assert engine.input_names == ["input_ids", "attention_mask", "token_type_ids"]
    ones = np.ones((2, 5), np.int64)
    assert engine.mapped_run([ones, ones, ones * 0])["logits"].shape == (2, 3)
    for wrong in (
        [ones],
        {"input_ids": ones},
        [ones[0]] * 3,
        dict.fromkeys([*engine.input_names, "x"], ones),
    ):
        with pytest.raises(Exception, match=r"takes|No array|shape|no input"):
            engine.run(wrong)
