"""A model of several labels decides the same in training, once exported, in a file, and on other rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from deepsparse import Pipeline
from resparse.errors import UserError
from sparseml.cli import main
from sparseml.transformers import export, text_classification
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("good", "long", "the")


def row(text: str) -> dict[str, Any]:
    words = text.split()
    flags = (bool({*words} & {*tiny.GOOD}), len(words) > 7, "the" in words)
    return {"text": text, "label": [name for name, flag in zip(NAMES, flags, strict=True) if flag]}


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for seed, split in enumerate(("train", "validation", "test")):
        records = [row(record["text"]) for record in tiny.rows(48, seed)]
        made[f"{split}_file"] = tiny.write(tmp_path / f"{split}.jsonl", records)
    return made


@pytest.mark.slow
def test_one_threshold_everywhere(pruned_model: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    longer = "num_epochs=16,init_lr=1e-2,qat_start_epoch=12,observer_epoch=14"
    given = {"multi_label_threshold": 0.6, "recipe_args": longer}
    report = train(pruned_model, tmp_path, run, do_eval=True, do_predict=True, **rows, **given)
    deployment = tmp_path / "deployment"
    export.main(model_path=str(run), target_path=str(tmp_path))
    for folder in (run, deployment):
        assert json.loads((folder / "config.json").read_text())["multi_label_threshold"] == 0.6
    texts = [json.loads(line)["text"] for line in rows["test_file"].read_text().splitlines()]
    with (run / "predict_results.txt").open(newline="") as file:
        trained = [
            set(filter(None, line["prediction"].split(","))) for line in csv.DictReader(file, delimiter="\t")
        ]
    assert len({tuple(sorted(labels)) for labels in trained}) > 1
    served = [set(labels) for labels in Pipeline.create(model_path=deployment)(texts).labels]
    # The export's logits differ by a step of int8 here and there.
    assert sum(ours == theirs for ours, theirs in zip(trained, served, strict=True)) >= len(texts) - 2
    labelled = tmp_path / "labelled.jsonl"
    words = ["predict", str(deployment), "--input", str(rows["test_file"]), "--output", str(labelled)]
    assert main(words) == 0
    found = [json.loads(line)["predicted_labels"] for line in labelled.read_text().splitlines()]
    assert [set(filter(None, labels.split(","))) for labels in found] == served
    again = text_classification.main(
        model_name_or_path=str(run),
        validation_file=str(rows["validation_file"]),
        do_eval=True,
        output_dir=str(tmp_path / "again"),
        max_seq_length=32,
        recipe=None,
    )
    assert again["metrics"]["eval_f1_micro"] == pytest.approx(report["metrics"]["eval_f1_micro"], abs=0.05)


@pytest.mark.parametrize("threshold", [0, 1, -0.5])
def test_a_threshold_is_a_probability(
    pruned_model: Path, rows: dict[str, Path], tmp_path: Path, threshold: float
) -> None:
    with pytest.raises(UserError, match="it is a probability"):
        train(pruned_model, tmp_path, tmp_path / "run", multi_label_threshold=threshold, **rows)
