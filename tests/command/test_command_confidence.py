"""From a training's flags to what is deployed: weights of classes, temperature, lowest score, thresholds by label."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Pipeline
from deepsparse.tasks.label_set import softmax
from resparse.calibration import fit_temperature
from resparse.errors import UserError
from resparse.threshold_search import best_thresholds
from sparseml.cli import main
from sparseml.transformers import export, text_classification
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")

LONGER = "num_epochs=12,init_lr=1e-2,qat_start_epoch=8,observer_epoch=10"


def rare(count: int, seed: int) -> list[dict[str, Any]]:
    """A quarter of the rows is positive; a few have the wrong label, so that no temperature is too low."""
    rows = [row for index, row in enumerate(tiny.rows(2 * count, seed)) if index % 2 == 0 or index % 6 == 1]
    for row in rows[::9]:
        row["label"] = "positive" if row["label"] == "negative" else "negative"
    return rows[:count]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rare")
    for seed, split in enumerate(("train", "validation", "test")):
        tiny.write(place / f"{split}.csv", rare(64, seed))
    return place


@pytest.fixture(scope="module")
def honest(pruned_model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A training with all of it, exported; and its report."""
    run = tmp_path_factory.mktemp("honest") / "run"
    report = train(
        pruned_model,
        folder,
        run,
        recipe_args=LONGER,
        test_file=folder / "test.csv",
        class_weights="balanced",
        focal_gamma=1.0,
        calibration="temperature",
        min_score=0.6,
        out_of_scope_label="unclear",
        do_eval=True,
        do_predict=True,
    )
    export.main(model_path=str(run), target_path=str(run), min_score=0.7)
    return run, report


def texts(folder: Path, split: str) -> tuple[list[str], list[str]]:
    with (folder / f"{split}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def test_the_deployment_decides_as_the_training_did(honest: tuple[Path, Any], folder: Path) -> None:
    run, report = honest
    entries = [json.loads((place / "config.json").read_text()) for place in (run, run / "deployment")]
    temperature = report["calibration"]["temperature"]["value"]
    for config, least in zip(entries, (0.6, 0.7), strict=True):  # an export may say otherwise
        assert config["calibration_temperature"] == temperature
        assert (config["min_score"], config["out_of_scope_label"]) == (least, "unclear")
    classify = Pipeline.create(model_path=run / "deployment", min_score=0.6)
    asked, _ = texts(folder, "test")
    found = classify(asked)
    assert len(set(found.labels)) > 1
    with (run / "predict_results.txt").open(newline="") as file:
        trained = [row["prediction"] for row in csv.DictReader(file, delimiter="\t")]
    # The export's logits differ by a step of int8 here and there.
    assert sum(ours == theirs for ours, theirs in zip(found.labels, trained, strict=True)) >= len(asked) - 2
    assert found.scores == pytest.approx(softmax(classify.logits(asked) / temperature).max(axis=1), rel=1e-4)


def test_the_temperature_is_that_of_the_int8_models_validation_rows(
    honest: tuple[Path, Any], folder: Path
) -> None:
    run, report = honest
    classify = Pipeline.create(model_path=run / "deployment")
    asked, labels = texts(folder, "validation")
    truth = np.array([classify.labels.index(label) for label in labels])
    found = fit_temperature(classify.logits(asked), truth)
    facts = report["calibration"]["temperature"]
    assert facts["value"] == pytest.approx(found, rel=0.02) and facts["value"] != 1
    assert facts["after"]["nll"] < facts["before"]["nll"]
    evaluated = report["evaluation"]["validation"]["calibration"]
    assert evaluated["nll"] == pytest.approx(facts["after"]["nll"], rel=1e-6)
    assert evaluated["before"]["ece"] == pytest.approx(facts["before"]["ece"], rel=1e-6)
    assert {"eval_coverage", "eval_accuracy_covered", "predict_coverage"} <= report["metrics"].keys()


def test_its_report_page_has_both_diagrams(honest: tuple[Path, Any]) -> None:
    run, _ = honest
    assert main(["report", str(run), "--no-latency"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "before calibration" in page and "before the logits were divided by" in page
    assert "share of rows answered" in page


def test_texts_out_of_scope_in_eval_downstream(
    honest: tuple[Path, Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sparseml.transformers import eval_downstream

    asked, labels = texts(folder, "test")
    rows = [{"text": text, "label": label} for text, label in zip(asked, labels, strict=True)]
    outside = [{"text": "the a of", "label": "unclear"} for _ in range(8)]
    path = tmp_path / "rows.csv"
    tiny.write(path, rows + outside)
    deployment = honest[0] / "deployment"
    classify = Pipeline.create(model_path=deployment)
    assert eval_downstream.main([str(deployment), "-d", str(path), "-o", str(tmp_path / "scores.json")]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    refused = classify("the a of").labels == ["unclear"]
    assert found["out_of_scope_recall"] == float(refused)
    answers = classify(asked).labels
    assert found["coverage"] == pytest.approx(np.mean([answer != "unclear" for answer in answers]))
    right = [answer == label for answer, label in zip(answers, labels, strict=True)]
    assert found["in_scope_accuracy"] == pytest.approx(np.mean(right))


def test_a_deployment_is_calibrated_again(
    honest: tuple[Path, Any], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the runtime's own logits; other entries of the configuration stay."""
    import shutil

    deployment = shutil.copytree(honest[0] / "deployment", tmp_path / "deployment")
    path = deployment / "config.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "calibration_temperature": 3.0, "min_score": None}))
    words = ["--dataset", str(folder / "validation.csv"), "--min-score", "0.6"]
    assert main(["calibrate", str(deployment), *words]) == 0
    after = json.loads(path.read_text())
    assert after.pop("calibration_temperature") == pytest.approx(
        before.pop("calibration_temperature"), rel=0.02
    )
    assert after.pop("min_score") == 0.6 and before.pop("min_score") == 0.7
    assert after == before
    shown = capsys.readouterr()
    assert "rows answered" in shown.out and "expected calibration error" in shown.err
    report = json.loads((deployment / "report.json").read_text())
    assert report["calibration"]["dataset"] == "validation.csv" and "export" in report
    for wrong, says in (
        (["--min-score", "1"], "below 1"),
        (["--multi-label-threshold", "validation"], "one label"),
    ):
        assert main(["calibrate", str(deployment), "--dataset", str(folder / "validation.csv"), *wrong]) == 2
        assert says in capsys.readouterr().err


def test_an_export_refuses_what_makes_no_sense(honest: tuple[Path, Any], tmp_path: Path) -> None:
    run, _ = honest
    with pytest.raises(UserError, match="from 0 to below 1"):
        export.main(model_path=str(run), target_path=str(tmp_path), min_score=1.0)


def test_a_training_from_a_calibrated_model_begins_anew(
    honest: tuple[Path, Any], folder: Path, tmp_path: Path
) -> None:
    train(honest[0], folder, tmp_path / "again", max_steps=1)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config.get("calibration_temperature") is None and config.get("min_score") is None
    evaluated = text_classification.main(
        model_name_or_path=str(honest[0]),
        validation_file=str(folder / "validation.csv"),
        do_eval=True,
        output_dir=str(tmp_path / "scores"),
        max_seq_length=32,
    )
    before = honest[1]["metrics"]
    assert evaluated["metrics"]["eval_coverage"] == pytest.approx(before["eval_coverage"], abs=0.05)


def test_a_name_that_no_row_would_get_is_told(
    pruned_model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(pruned_model, folder, tmp_path / "run", max_steps=1, out_of_scope_label="other")
    assert "--out_of_scope_label has no effect" in capsys.readouterr().err
    train(pruned_model, folder, tmp_path / "class", max_steps=1, out_of_scope_label="positive", do_eval=True)
    assert "no effect" not in capsys.readouterr().err
    metrics = json.loads((tmp_path / "class" / "report.json").read_text())["metrics"]
    assert "eval_out_of_scope_recall" in metrics


def test_thresholds_by_label_are_those_of_the_validation_rows(pruned_model: Path, tmp_path: Path) -> None:
    names = ("good", "long", "the")

    def row(text: str) -> dict[str, Any]:
        words = text.split()
        flags = (bool({*words} & {*tiny.GOOD}), len(words) > 7, "the" in words)
        return {"text": text, "label": [name for name, flag in zip(names, flags, strict=True) if flag]}

    for seed, split in enumerate(("train", "validation")):
        tiny.write(tmp_path / f"{split}.jsonl", [row(record["text"]) for record in tiny.rows(64, seed)])
    files = {f"{split}_file": tmp_path / f"{split}.jsonl" for split in ("train", "validation")}
    given = {"multi_label_threshold": "validation", "calibration": "temperature", "recipe_args": LONGER}
    run = tmp_path / "run"
    given |= {"test_file": files["validation_file"], "do_predict": True, "class_weights": "balanced"}
    report = train(pruned_model, tmp_path, run, do_eval=True, **files, **given)
    rows = [json.loads(line) for line in files["validation_file"].read_text().splitlines()]
    truth = np.array([[name in entry["label"] for name in names] for entry in rows], float)
    with (run / "predict_results.txt").open(newline="") as file:
        predicted = list(csv.DictReader(file, delimiter="\t"))
    shares = np.array([[float(line[f"probability_{name}"]) for name in names] for line in predicted])
    expected = best_thresholds(shares, truth, 0.3)
    own = json.loads((run / "config.json").read_text())["multi_label_threshold"]
    assert own == pytest.approx(dict(zip(names, expected, strict=True)), abs=1e-4)
    for line, row_shares in zip(predicted, shares, strict=True):
        above = [name for name, share in zip(names, row_shares, strict=True) if share > own[name]]
        assert line["prediction"] == ",".join(above)
    after = report["calibration"]["thresholds"]["after"]["f1_macro_average"]
    assert after == report["metrics"]["eval_f1_macro_average"]
    assert after >= report["calibration"]["thresholds"]["before"]["f1_macro_average"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"calibration": "temperature", "do_eval": False}, "needs validation rows: add --do_eval"),
        ({"multi_label_threshold": "validation", "do_train": False}, "sparseml calibrate"),
        ({"calibration": "temperature", "eval_on_test": True}, "those of the test"),
        ({"class_weights": "balanced", "label_smoothing_factor": 0.1}, "leave one of them out"),
        ({"multi_label_threshold": "validatoin"}, "a probability, between 0 and 1, or `validation`"),
        ({"focal_gamma": -1}, "from 0"),
        ({"min_score": 1.5}, "from 0 to below 1"),
        ({"class_weights": "nowhere.json"}, "neither balanced nor none"),
    ],
)
def test_what_makes_no_sense(
    pruned_model: Path, folder: Path, tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        train(pruned_model, folder, tmp_path / "run", **{"do_eval": True, **given})
