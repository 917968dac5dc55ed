"""The whole command on every kind of data, from files to a folder that others read."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from resparse.thresholds import DEFAULT as MULTI_LABEL_THRESHOLD
from sparseml.data import DataError
from sparseml.session.models import load_trained
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCE = random.Random(5)


def text() -> str:
    return " ".join(SOURCE.choices(tiny.WORDS, k=SOURCE.randint(2, 10)))


def single(index: int) -> dict[str, Any]:
    return {"text": text(), "label": index % 3}


def named(index: int) -> dict[str, Any]:
    return {"body": text(), "mood": ("sad", "angry", "happy")[index % 3]}


def several(index: int) -> dict[str, Any]:
    return {
        "text": text(),
        "label": [name for bit, name in enumerate(("a", "b", "c")) if (index + 1) >> bit & 1],
    }


def score(index: int) -> dict[str, Any]:
    return {"text": text(), "label": index / 7}


def pair(index: int) -> dict[str, Any]:
    return {"premise": text(), "hypothesis": text(), "label": ("yes", "no")[index % 2]}


KINDS: dict[str, tuple[Any, str, dict[str, Any], list[str], str]] = {
    "single label": (single, ".csv", {}, ["0", "1", "2"], "single_label_classification"),
    "names as labels, columns of any name": (
        named,
        ".csv",
        {"input_column_names": "body", "label_column_name": "mood"},
        ["angry", "happy", "sad"],
        "single_label_classification",
    ),
    "several labels": (several, ".jsonl", {}, ["a", "b", "c"], "multi_label_classification"),
    "a score": (score, ".csv", {}, ["label"], "regression"),
    "two texts": (
        pair,
        ".jsonl",
        {"input_column_names": "premise,hypothesis"},
        ["no", "yes"],
        "single_label_classification",
    ),
}


def test_a_label_that_only_the_test_rows_have(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are predicted; metrics of such rows would mean nothing."""
    test = tiny.write(tmp_path / "test.csv", [*tiny.rows(5), {"text": "the film", "label": "neutral"}])
    report = train(pruned_model, rows_folder, tmp_path / "run", recipe=None, test_file=test, do_predict=True)
    assert len((tmp_path / "run" / "predict_results.txt").read_text().splitlines()) == 1 + 6
    assert not any("accuracy" in name for name in report["metrics"])
    said = " ".join(capsys.readouterr().err.split())
    assert "'neutral': 1 row" in said and "there are no metrics on this split" in said


def test_a_tokenizer_of_other_words_is_warned_of(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny.bert(tmp_path / "other", words=[*reversed(tiny.WORDS)])
    train(pruned_model, rows_folder, tmp_path / "run", recipe=None, tokenizer_name=other, num_train_epochs=1)
    assert "embeddings are of other words" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "warned"), [({"num_attention_heads": 1}, True), ({"attention_probs_dropout_prob": 0.3}, False)]
)
def test_a_configuration_that_computes_otherwise_is_warned_of(
    change: dict[str, Any],
    warned: bool,
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The weights fit both, and learn to answer by another model than the one they are of."""
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((pruned_model / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | change))
    train(pruned_model, rows_folder, tmp_path / "run", recipe=None, config_name=other, num_train_epochs=1)
    said = " ".join(capsys.readouterr().err.split())
    assert ("num_attention_heads is 1, and not" in said) == warned
    assert ("not the one that the weights" in said) == warned


def test_an_evaluation_reads_the_columns_of_the_training(pruned_model: Path, tmp_path: Path) -> None:
    """And refuses rows of another kind, which the model would answer all the same."""
    rows = [{"text": "the film", "body": text(), "label": index % 2} for index in range(20)]
    file = tiny.write(tmp_path / "rows.csv", rows)
    trained = {"train_file": file, "validation_file": file, "input_column_names": "body", "recipe": None}
    train(pruned_model, tmp_path, tmp_path / "run", **trained)

    def evaluated(name: str, **more: Any) -> Any:
        given = {"recipe": None, "do_train": None, "train_file": None, "do_eval": True, **more}
        return train(tmp_path / "run", tmp_path, tmp_path / name, **given)

    found = [
        evaluated(columns or "own", validation_file=file, input_column_names=columns)["metrics"]["eval_loss"]
        for columns in (None, "body", "text")
    ]
    assert found[0] == found[1] != found[2]
    pairs = [{"premise": row["body"], "hypothesis": "the film", "label": row["label"]} for row in rows]
    other = tiny.write(tmp_path / "pairs.csv", pairs)
    for more in ({"validation_file": other}, {"validation_file": file, "input_column_names": "body,text"}):
        with pytest.raises(DataError, match="trained on one text"):
            evaluated("pairs", **more)


@pytest.mark.parametrize("name", KINDS)
def test_kind_of_data(pruned_model: Path, tmp_path: Path, name: str) -> None:
    make, ending, arguments, classes, kind = KINDS[name]
    files = {}
    for split, count in (("train", 40), ("validation", 14), ("test", 11)):
        files[f"{split}_file"] = tiny.write(tmp_path / f"{split}{ending}", [make(i) for i in range(count)])
    report = train(
        pruned_model, tmp_path, tmp_path / "run", do_eval=True, do_predict=True, **files, **arguments
    )
    config = AutoConfig.from_pretrained(tmp_path / "run")
    assert config.problem_type == kind
    texts = [column for column in make(0) if column not in ("label", "mood")]
    assert config.text_columns == texts
    assert report["data"]["kind"] == kind
    threshold = MULTI_LABEL_THRESHOLD if name == "several labels" else None
    assert getattr(config, "multi_label_threshold", None) == threshold
    names = [config.id2label[index] for index in range(config.num_labels)]
    if kind != "regression":
        assert names == classes == report["data"]["labels"]
    else:
        assert len(names) == 1
    assert all(np.isfinite(value) for value in report["metrics"].values())
    assert report["totals"]["prunable_sparsity"] > 0.7
    check_predictions(tmp_path / "run", files["test_file"], names, kind)


def check_predictions(folder: Path, file: Path, names: list[str], kind: str) -> None:
    """One line a row, in the rows' order, with what the loaded model itself says of each row."""
    with (folder / "predict_results.txt").open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines, delimiter="\t"))
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as lines:
            asked = list(csv.DictReader(lines))
    else:
        asked = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [row["index"] for row in found] == [str(index) for index in range(len(asked))]
    model, tokenizer = load_trained(folder), AutoTokenizer.from_pretrained(folder)
    for row, said in zip(asked, found, strict=True):
        texts = [row[key] for key in ("text", "body", "premise", "hypothesis") if key in row]
        with torch.no_grad():
            logits = model(**tokenizer(*texts, return_tensors="pt")).logits[0].double()
        if kind == "regression":
            assert said.keys() == {"index", "prediction"}
            assert float(said["prediction"]) == pytest.approx(float(logits[0]), abs=1e-4)
            continue
        shares = logits.softmax(-1) if kind.startswith("single") else logits.sigmoid()
        columns = [float(said[f"probability_{name}"]) for name in names]
        assert columns == pytest.approx(shares.tolist(), abs=1e-4)
        if kind.startswith("single"):
            assert said["prediction"] == names[int(np.argmax(columns))]
        else:
            over = [name for name, share in zip(names, columns, strict=True) if share > MULTI_LABEL_THRESHOLD]
            assert said["prediction"] == ",".join(over)


def test_trained_folder_is_evaluated_in_its_own_order_of_classes(
    pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    """The rows to evaluate name the classes in another order, and lack some: the model's order counts."""
    first = train(pruned_model, rows_folder, tmp_path / "run", do_eval=True)
    before = tiny.contents(tmp_path / "run")
    only = {"do_train": None, "recipe": None, "do_eval": True, "train_file": None, "save_strategy": None}
    again = train(tmp_path / "run", rows_folder, tmp_path / "scores", **only)
    assert again["metrics"]["eval_loss"] == pytest.approx(first["metrics"]["eval_loss"], abs=1e-6)
    assert again["metrics"]["eval_accuracy"] == first["metrics"]["eval_accuracy"]
    assert again["totals"] == first["totals"]
    positive = [row for row in tiny.rows(16, seed=1) if row["label"] == "positive"]
    tiny.write(tmp_path / "positive.csv", positive)
    part = train(
        tmp_path / "run", rows_folder, tmp_path / "part", **only, validation_file=tmp_path / "positive.csv"
    )
    assert part["data"]["labels"] == ["negative", "positive"]
    assert tiny.contents(tmp_path / "run") == before


def test_predictions_need_no_labels(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    train(pruned_model, rows_folder, tmp_path / "run")
    texts = tiny.write(tmp_path / "texts.csv", [{"text": row["text"]} for row in tiny.rows(5)])
    nothing = dict.fromkeys(("do_train", "recipe", "train_file", "validation_file", "save_strategy"))
    report = train(
        tmp_path / "run", rows_folder, tmp_path / "said", **nothing, do_predict=True, test_file=texts
    )
    lines = (tmp_path / "said" / "predict_results.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == ["index", "prediction", "probability_negative", "probability_positive"]
    assert len(lines) == 6
    assert not any("accuracy" in name for name in report["metrics"])


def test_mnli_has_two_sets_of_each(pruned_model: Path, tmp_path: Path) -> None:
    """From a saved dataset whose splits are called as MNLI's are."""
    from datasets import Dataset, DatasetDict

    classes = ("entailment", "neutral", "contradiction")
    counts = {
        "train": 24,
        "validation_matched": 9,
        "validation_mismatched": 12,
        "test_matched": 5,
        "test_mismatched": 7,
    }
    DatasetDict(
        {
            split: Dataset.from_list(
                [{"premise": text(), "hypothesis": text(), "label": classes[i % 3]} for i in range(count)]
            )
            for split, count in counts.items()
        }
    ).save_to_disk(tmp_path / "mnli")
    no_files = dict.fromkeys(("train_file", "validation_file"))
    folder = tmp_path / "run"
    report = train(
        pruned_model,
        tmp_path,
        folder,
        **no_files,
        dataset_name=tmp_path / "mnli",
        do_eval=True,
        do_predict=True,
    )
    assert {"eval_accuracy", "eval_accuracy_mm", "predict_accuracy", "predict_accuracy_mm"} <= report[
        "metrics"
    ].keys()
    sizes = [
        len((folder / f"predict_results{end}.txt").read_text(encoding="utf-8").splitlines())
        for end in ("", "-mm")
    ]
    assert sizes == [6, 8]
    kept = json.loads((folder / "eval_results.json").read_text(encoding="utf-8"))
    assert kept["eval_accuracy_mm"] == report["metrics"]["eval_accuracy_mm"]


def test_fp16_on_a_cpu_is_bfloat16_and_said_once(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(pruned_model, rows_folder, tmp_path / "fp16", fp16=True, use_cpu=True)
    assert capsys.readouterr().err.count("--fp16 became --bf16") == 1
    train(pruned_model, rows_folder, tmp_path / "bf16", bf16=True)
    half, brain = (load_file(tmp_path / name / "model.safetensors") for name in ("fp16", "bf16"))
    assert all(torch.equal(half[name], brain[name]) for name in half)
    assert {value.dtype for value in half.values()} == {torch.float32}


def test_validation_ratio_and_padding_to_the_maximum(
    pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    """Padding is masked: the first loss is the same to float tolerance, without dropout."""
    start = tiny.bert(tmp_path / "start", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    asked = {"validation_file": None, "validation_ratio": 0.25, "do_eval": True, "max_train_samples": 24}
    reports = [
        train(start, rows_folder, tmp_path / str(pad), **asked, pad_to_max_length=pad, max_seq_length=20)
        for pad in (False, True)
    ]
    losses = [report["metrics"]["train_loss"] for report in reports]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_recipe_arguments_reach_the_recipe(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    train(
        pruned_model,
        rows_folder,
        tmp_path / "run",
        recipe_args='{"num_epochs": 1, "qat_start_epoch": 0.25, "observer_epoch": 0.75}',
    )
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["global_step"] == 6


@pytest.mark.slow
def test_it_learns(pruned_model: Path, tmp_path: Path) -> None:
    """A word decides the label: a sparse, quantized model finds out which."""
    tiny.write(tmp_path / "train.csv", tiny.rows(600))
    tiny.write(tmp_path / "validation.csv", tiny.rows(100, seed=1))
    report = train(
        pruned_model,
        tmp_path,
        tmp_path / "run",
        do_eval=True,
        recipe_args="num_epochs=6,init_lr=5e-3,qat_start_epoch=3,observer_epoch=5",
    )
    assert report["metrics"]["eval_accuracy"] > 0.95
    assert report["totals"]["quantized_layers"] == 17
