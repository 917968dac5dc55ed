"""150 classes and texts of many scripts, with and without spaces: from rows to a server's answer, nothing is lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from deepsparse import Pipeline, predict
from deepsparse.explain import explain
from deepsparse.server.app import create_app
from deepsparse.server.config import parse_config
from deepsparse.server.endpoints import Endpoints
from deepsparse.server.service import Server
from sparseml.session.models import load_tokenizer, resolve
from sparseml.transformers import export
from support import multilingual, tiny

CLASSES = 150


@pytest.fixture(scope="module", params=multilingual.KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A folder with rows, a trained model and its deployment; and what the training reported."""
    folder = tmp_path_factory.mktemp("multilingual")
    tiny.write(folder / "train.csv", multilingual.rows(2 * CLASSES, CLASSES))
    tiny.write(folder / "validation.csv", multilingual.rows(CLASSES, CLASSES, seed=1))
    report = tiny.train(
        multilingual.encoder(folder / "start", request.param),
        folder,
        folder / "model",
        recipe=multilingual.recipe(request.param),
        recipe_args="num_epochs=1,qat_start_epoch=0.2,observer_epoch=0.8",
        per_device_train_batch_size=32,
        max_seq_length=64,
        do_eval=True,
    )
    export.main([str(folder / "model")])
    return folder, report


def texts_of(folder: Path) -> list[str]:
    with (folder / "validation.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def test_all_classes_are_learned_and_exported(made: tuple[Path, dict[str, Any]]) -> None:
    folder, report = made
    assert len(report["data"]["labels"]) == CLASSES
    proof = json.loads((folder / "deployment" / "report.json").read_text(encoding="utf-8"))["export"]
    assert proof["verification"]["rows"] == CLASSES and proof["verification"]["label_agreement"] >= 0.99
    config = json.loads((folder / "deployment" / "config.json").read_text(encoding="utf-8"))
    assert sorted(config["id2label"].values()) == sorted(report["data"]["labels"])


def test_tokens_are_those_of_the_training(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    texts = texts_of(folder)
    theirs = load_tokenizer(resolve(str(folder / "start")))
    pipeline = Pipeline.create(model_path=folder / "deployment", sequence_length=64)
    ours = pipeline.handler.encode(pipeline._runner.tokenizer, texts)
    assert [encoding.ids for encoding in ours] == theirs(texts, truncation=True, max_length=64)["input_ids"]
    known = [set(encoding.ids) - {theirs.unk_token_id} for encoding in ours]
    assert all(len(ids) > 2 for ids in known)  # more than <s> and </s>


def test_the_native_engine_answers_as_onnx_runtime(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    native, other = (
        Pipeline.create(model_path=folder / "deployment", engine_type=engine)
        for engine in ("native", "onnxruntime")
    )
    assert (native.engine.engine_type, other.engine.engine_type) == ("native", "onnxruntime")
    texts = texts_of(folder)
    # Of 8-bit values: a rounding of one step, amplified by two layers.
    difference = np.abs(native.logits(texts) - other.logits(texts))
    assert np.median(difference) < 0.02 and difference.max() < 0.3


def test_files_and_the_server_answer_every_script(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    texts = texts_of(folder)[:20]
    pipeline = Pipeline.create(model_path=folder / "deployment")
    expected = pipeline(texts)
    output = folder / "labelled.csv"
    predict.main(
        [
            str(folder / "deployment"),
            "--input",
            str(folder / "validation.csv"),
            "--output",
            str(output),
            "--overwrite",
        ]
    )
    with output.open(encoding="utf-8", newline="") as file:
        labelled = list(csv.DictReader(file))
    assert [row["text"] for row in labelled] == texts_of(folder)
    assert [row["predicted_label"] for row in labelled[:20]] == expected.labels
    endpoint = {"task": "glue", "model": str(folder / "deployment"), "name": "scripts"}
    parsed = parse_config({"endpoints": [endpoint]}, "test")
    with TestClient(create_app(Server(Endpoints(parsed), parsed))) as served:
        answer = served.post("/v2/models/scripts/infer", json={"sequences": texts, "top_k": CLASSES}).json()
        assert [len(labels) for labels in answer["labels"]] == [CLASSES] * 20
        assert [labels[0] for labels in answer["labels"]] == expected.labels
        why = served.post("/explain", json={"sequences": [[texts[2]]]}).json()
        assert why["texts"] == [texts[2]] and len(why["parts"]) > 1


@pytest.mark.parametrize("script", list(multilingual.WORDS))
def test_explanations_hold_whole_characters(made: tuple[Path, dict[str, Any]], script: str) -> None:
    folder, _ = made
    text = ("" if script in multilingual.UNSPACED else " ").join(multilingual.WORDS[script])
    found = explain(Pipeline.create(model_path=folder / "deployment"), text)
    assert [text[part.start : part.end] for part in found.parts] == [part.word for part in found.parts]
    assert "".join(part.word for part in found.parts) == text.replace(" ", "")


def test_windows_in_a_text_without_spaces(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    pipeline = Pipeline.create(model_path=folder / "deployment", long_texts="windows", sequence_length=16)
    found = pipeline.logits(["今天天气高兴" * 40, "ดีใจเสียใจ" * 30])
    assert np.isfinite(found).all() and pipeline.lengths.longer == 2
