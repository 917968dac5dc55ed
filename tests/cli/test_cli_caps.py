"""Bounds from the environment on a run's size."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparseml.options.table import ArgumentError
from support import arguments, tiny

FLAGS = [
    *("--train_file", "train.csv", "--validation_file", "validation.csv", "--do_train", "--do_eval"),
    *("--output_dir", "out", "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"),
]


def limits(*more: str) -> tuple[int | None, ...]:
    data = arguments.parse([*FLAGS, *more]).data
    return data.max_train_samples, data.max_eval_samples, data.max_predict_samples


def test_nothing_is_bounded_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPARSE_MAX_ROWS", "")
    assert limits() == (None, None, None)


def test_rows_bound_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPARSE_MAX_ROWS", "100")
    assert limits() == (100, 100, 100)
    assert limits("--max_train_samples", "20", "--max_eval_samples", "500") == (20, 100, 100)


def test_steps_bound_the_training_rows_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPARSE_MAX_STEPS", "3")
    assert limits() == (3 * 8 * 2, None, None)
    monkeypatch.setenv("RESPARSE_MAX_ROWS", "40")
    assert limits() == (40, 40, 40)


def test_bounds_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPARSE_MAX_ROWS", "40")
    monkeypatch.setenv("RESPARSE_MAX_STEPS", "3")
    notes = "\n".join(arguments.parse(FLAGS).notes)
    assert "RESPARSE_MAX_ROWS=40 is set: each split is cut to 40 rows" in notes
    assert "RESPARSE_MAX_STEPS=3 is set: an epoch is cut to 3 x 16 rows" in notes


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_no_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPARSE_MAX_STEPS", value)
    with pytest.raises(ArgumentError, match=f"RESPARSE_MAX_STEPS={value}: give a whole number above 0"):
        limits()


@pytest.mark.usefixtures("one_thread")
def test_the_whole_recipe_is_carried_out(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESPARSE_MAX_ROWS", "12")
    monkeypatch.setenv("RESPARSE_MAX_STEPS", "1")
    report = tiny.train(pruned_model, rows_folder, tmp_path / "run", do_eval=True)
    assert report["totals"]["quantized_layers"] == report["totals"]["quantizable_layers"]
    assert report["data"]["rows"] == {"train": 8, "validation": 12}
