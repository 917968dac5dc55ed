"""Token classification from column files to the server: a tiny model, pruned, quantized and distilled."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsparse import Pipeline
from resparse.errors import UserError
from resparse.words import firsts, owners, places
from sparseml import cli
from sparseml.data.label_encoding import SINGLE, Labels
from sparseml.data.readers import read_file
from sparseml.data.token_rows import IGNORED, encode_rows, read_tags
from sparseml.tasks import load_task, task_of
from sparseml.training import run
from sparseml.transformers import eval_downstream, export, token_classification
from support import tagged, tiny

RECIPE = tiny.RECIPE.replace("2e-3", "1e-2").replace("        - bert.pooler\n", "")


def arguments(place: Path, **more: Any) -> dict[str, Any]:
    """Of a training on the rows of a folder."""
    return {
        "train_file": str(place / "train.conll"),
        "validation_file": str(place / "validation.jsonl"),
        "test_file": str(place / "test.csv"),
        "model_name_or_path": str(place / "start"),
        "do_train": True,
        "do_eval": True,
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "max_seq_length": 16,
        **more,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, and under model a trained model; not to be changed."""
    place = tmp_path_factory.mktemp("tagged")
    for name, count in (("train.conll", 256), ("validation.jsonl", 32), ("test.csv", 16)):
        tagged.write(place / name, tagged.rows(count, seed=count))
    tiny.bert(place / "start", words=tagged.WORDS)
    dense = {"output_dir": str(place / "teacher"), "num_train_epochs": 5, "learning_rate": 1e-2}
    run.main(load_task("token-classification"), **arguments(place, **dense, do_eval=False))
    token_classification.main(
        **arguments(
            place,
            output_dir=str(place / "model"),
            recipe=RECIPE + tiny.DISTILLATION,
            distill_teacher=str(place / "teacher"),
            do_predict=True,
            return_entity_level_metrics=True,
        )
    )
    return place


@pytest.fixture(scope="module")
def deployed(trained: Path) -> Path:
    export.main(["--model_path", str(trained / "model")])
    return trained / "deployment"


def test_it_learns_and_reports(trained: Path) -> None:
    report = json.loads((trained / "model" / "report.json").read_text())
    assert report["metrics"]["eval_overall_f1"] > 0.9 and report["metrics"]["eval_GOOD_f1"] > 0.9
    assert report["totals"]["prunable_sparsity"] > 0.5 and report["totals"]["quantized_layers"] > 8
    assert report["data"]["labels"] == list(tagged.NAMES)
    evaluation = report["evaluation"]["validation"]
    assert [row["type"] for row in evaluation["entities"]] == ["BAD", "GOOD"]
    assert sum(row["number"] for row in evaluation["entities"]) == 64
    assert cli.main(["report", str(trained / "model")]) == 0
    assert "Entities" in (trained / "model" / "report.html").read_text()
    card = (trained / "model" / "README.md").read_text()
    assert "token-classification" in card and "--task token_classification" in card


def test_it_writes_tags_that_it_can_read_again(trained: Path) -> None:
    read = read_file(trained / "model" / "predict_results.conll")
    wanted = tagged.rows(16, seed=16)
    assert list(read.columns["tokens"]) == [words for words, _ in wanted]
    lines = (trained / "model" / "predictions.txt").read_text().splitlines()
    assert [line.split() for line in lines] == list(read.columns["tags"])
    right = [
        found == tag
        for row, (_, tags) in zip(lines, wanted, strict=True)
        for found, tag in zip(row.split(), tags, strict=True)
    ]
    assert np.mean(right) > 0.9


def test_the_export_is_compared_token_by_token(deployed: Path) -> None:
    assert json.loads((deployed / "config.json").read_text())["task"] == "token_classification"
    checked = json.loads((deployed / "report.json").read_text())["export"]["verification"]
    assert checked["rows"] == 32 and checked["label_agreement"] == 1


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_the_deployment_scores_as_the_training(
    deployed: Path, trained: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = str(trained / "validation.jsonl")
    assert eval_downstream.main([str(deployed), "-d", rows, "-e", engine]) == 0
    found = dict(line.split(": ") for line in capsys.readouterr().out.splitlines() if ": " in line)
    metrics = json.loads((trained / "model" / "report.json").read_text())["metrics"]
    assert float(found["f1"]) == pytest.approx(metrics["eval_overall_f1"], abs=0.03)


def test_files_and_the_server_give_entities(deployed: Path, tmp_path: Path) -> None:
    tiny.write(tmp_path / "in.csv", [{"text": "the lovely warm films"}])
    words = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    assert cli.main(["predict", str(deployed), *words]) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    (entity,) = json.loads(row["predicted_entities"])
    assert (entity["entity"], entity["word"], entity["start"], entity["end"]) == (
        "GOOD",
        "lovely warm",
        4,
        15,
    )
    testing = pytest.importorskip("fastapi.testclient")
    from deepsparse.server.app import Server, create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints

    config = parse_config({"endpoints": [{"task": "ner", "model": str(deployed), "name": "names"}]}, "test")
    with testing.TestClient(create_app(Server(Endpoints(config), config))) as client:
        body = {"inputs": "the lovely warm films", "aggregation_strategy": "simple"}
        answer = client.post("/v2/models/names/infer", json=body).json()
        (one,) = answer["predictions"][0]
        assert {**one, "score": 0} == {**entity, "score": 0, "index": 2, "is_grouped": True}
        refused = client.post("/v2/models/names/infer", json={"inputs": ["", "x"]})
        assert refused.status_code in (400, 422) and "empty" in refused.text


def test_long_texts_are_read_whole(deployed: Path, trained: Path) -> None:
    """A text of many windows gets the tags that its parts get."""
    rows = tagged.rows(12, seed=5)
    words = [word for row, _ in rows for word in row]
    tags = [tag for _, row in rows for tag in row]
    pipeline = Pipeline.create("ner", deployed, sequence_length=16)
    found = pipeline.predict(inputs=[words], is_split_into_words=True)[0]
    assert len(found.word_tags()) == len(words) and len(found.pieces) > 100
    assert found.index == list(range(1, len(found.pieces) + 1))
    assert np.mean([one == other for one, other in zip(found.word_tags(), tags, strict=True)]) > 0.9
    assert [found.text[start:end] for start, end in found.offsets[:3]] == [
        piece.removeprefix("##") for piece in found.pieces[:3]
    ]


def test_tags_are_aligned_and_long_rows_become_windows() -> None:
    datasets = pytest.importorskip("datasets")
    tokenizer = tiny.tokenizer(tagged.WORDS)
    rows = tagged.rows(20, seed=3)
    labels = Labels(SINGLE, tagged.NAMES)
    ids = [[labels.label2id[tag] for tag in tags] for _, tags in rows]
    split = datasets.Dataset.from_dict(
        {
            "text": [" ".join(words) for words, _ in rows],
            "tokens": [words for words, _ in rows],
            "labels": ids,
        }
    )
    for length in (6, 7, 64):
        encoded = encode_rows(split, "train", tokenizer, length, labels)
        assert (len(encoded) > len(split)) == (length < 64) and max(encoded["length"]) <= length
        counts = [len(words) for words, _ in rows]
        # A model that says what the labels are: every word is read back, whatever the windows.
        most = max(map(len, encoded["labels"]))
        logits = np.zeros((len(encoded), most, len(labels.names)), np.float32)
        for row, tags in enumerate(encoded["labels"]):
            for token, tag in enumerate(tags):
                logits[row, token, max(tag, 0)] = 1
        order = np.random.default_rng(0).permutation(len(encoded))
        assert read_tags(logits[order], encoded.select(order), counts, labels.names) == [
            tags for _, tags in rows
        ]
    whole = encode_rows(split, "train", tokenizer, 64, labels, all_tokens=True)
    first = encode_rows(split, "train", tokenizer, 64, labels)
    for tokens, every, some in zip(whole["input_ids"], whole["labels"], first["labels"], strict=True):
        pieces = tokenizer.convert_ids_to_tokens(tokens)
        for place, piece in enumerate(pieces):
            if piece.startswith("##"):
                before = labels.names[every[place - 1]]
                assert some[place] == IGNORED and labels.names[every[place]] == before.replace("B-", "I-")
            else:
                assert every[place] == some[place] and (some[place] == IGNORED) == (piece[0] == "[")


def test_words_of_tokens() -> None:
    spans = places(["New", "York", "!"])
    assert spans.tolist() == [[0, 3], [4, 8], [9, 10]]
    # Special, "New", " Yo" with its blank, "rk", a blank alone, "!", special.
    offsets = np.array([[0, 0], [0, 3], [3, 6], [6, 8], [8, 9], [9, 10], [0, 0]])
    assert owners(offsets, spans).tolist() == [-1, 0, 1, 1, -1, 2, -1]
    assert firsts(owners(offsets, spans)).tolist() == [-1, 0, 1, -1, -1, 2, -1]


def test_the_distance_is_that_of_labelled_tokens_alone() -> None:
    task = load_task("ner")
    source = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(2, 5, 3, generator=source) for _ in range(2))
    labels = torch.tensor([[IGNORED, 1, IGNORED, 2, IGNORED], [IGNORED] * 5])
    batch = {"labels": labels, "attention_mask": torch.ones(2, 5)}
    found = task.distance({"logits": ours}, {"logits": theirs}, 2.0, batch, None)
    wanted = [
        (theirs[0, token] / 2).softmax(-1)
        @ ((theirs[0, token] / 2).log_softmax(-1) - (ours[0, token] / 2).log_softmax(-1))
        for token in (1, 3)
    ]
    assert float(found) == pytest.approx(4 * float(torch.stack(wanted).mean()), rel=1e-5)
    theirs[labels == IGNORED] = 9.0
    assert float(task.distance({"logits": ours}, {"logits": theirs}, 2.0, batch, None)) == pytest.approx(
        float(found)
    )


def test_mistakes_are_told(trained: Path, tmp_path: Path) -> None:
    task = load_task("ner")
    with pytest.raises(UserError, match="no column 'nix'"):
        run.main(task, **arguments(trained, output_dir=str(tmp_path / "a"), text_column_name="nix"))
    short = tmp_path / "short.jsonl"
    short.write_text('{"tokens": ["a", "b"], "tags": ["O"]}')
    with pytest.raises(UserError, match=r"2 words and 1 tags.*line 1"):
        run.main(task, **arguments(trained, output_dir=str(tmp_path / "b"), train_file=str(short)))
    assert not (tmp_path / "b").exists()


def test_models_are_told_by_their_configuration(trained: Path) -> None:
    from transformers import AutoConfig

    assert task_of(AutoConfig.from_pretrained(trained / "model")).name == "token_classification"
