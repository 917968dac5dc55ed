"""What evaluated rows say beyond metrics: calibration against its definition, and what a training records of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Labels
from sparseml.evaluation import BINS, calibration, evaluation, score_bins
from support import tiny


def expected_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, bin by bin: ((m - 1) / M, m / M]."""
    total = 0.0
    for m in range(1, BINS + 1):
        inside = (confidence > (m - 1) / BINS) & (confidence <= m / BINS)
        if inside.any():
            total += inside.sum() / len(confidence) * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_the_papers(seed: int) -> None:
    source = np.random.default_rng(seed)
    confidence = np.concatenate([source.uniform(0, 1, 300), [1.0, 1e-12, 1 / 3, 0.2]])
    right = source.uniform(0, 1, len(confidence)) < confidence**2
    found = calibration(confidence, right)
    assert found["ece"] == pytest.approx(expected_error(confidence, right), abs=1e-12)
    assert sum(entry["rows"] for entry in found["bins"]) == len(confidence)


def test_a_perfect_model_has_no_error() -> None:
    assert calibration(np.ones(4), np.ones(4, bool))["ece"] == 0
    assert calibration(np.full(4, 0.75), np.array([1, 1, 1, 0], bool))["ece"] == pytest.approx(0)


def test_one_label_a_row() -> None:
    labels = Labels(SINGLE, ("a", "b", "c"))
    logits = np.array([[9.0, 0, 0], [0, 9, 0], [9, 0, 0]])
    found = evaluation(logits, np.array([0, 1, 1]), labels)
    assert found["confusion"] == {"a": {"a": 1}, "b": {"a": 1, "b": 1}, "c": {}}
    assert found["calibration"]["ece"] == pytest.approx(1 / 3, abs=1e-3)


def test_several_labels() -> None:
    labels = Labels(MULTI, ("a", "b"))
    found = evaluation(np.array([[9.0, -9], [9, 9], [-9, -9]]), np.array([[1.0, 1], [0, 1], [0, 0]]), labels)
    assert found["labels"] == {
        "a": {"right": 1, "missed": 0, "wrong": 1},
        "b": {"right": 1, "missed": 1, "wrong": 0},
    }
    assert sum(entry["rows"] for entry in found["calibration"]["bins"]) == 6


def test_scores_in_parts_of_equal_size() -> None:
    scores = np.linspace(0, 1, 25)
    bins = score_bins(scores, 2 * scores)
    assert [entry["rows"] for entry in bins] == [3] * 5 + [2] * 5
    assert all(entry["actual"] == pytest.approx(2 * entry["predicted"]) for entry in bins)
    assert "ece" not in evaluation(scores[:, None], scores, Labels(REGRESSION, ("score",)))["calibration"]


def test_a_diverged_model_has_no_calibration() -> None:
    found = evaluation(np.array([[np.nan, 0.0]]), np.array([0]), Labels(SINGLE, ("a", "b")))
    assert found == {"kind": SINGLE, "rows": 1}


@pytest.mark.usefixtures("one_thread")
def test_a_training_records_it_and_its_sparsity(
    rows_folder: Path, pruned_model: Path, tmp_path: Path
) -> None:
    rows = rows_folder / "validation.csv"
    report = tiny.train(pruned_model, rows_folder, tmp_path, do_eval=True, do_predict=True, test_file=rows)
    kept = json.loads((tmp_path / "report.json").read_text())["evaluation"]
    assert kept == report["evaluation"] and set(kept) == {"validation", "test"}
    assert kept["validation"] == kept["test"]  # the same rows
    table = kept["validation"]["confusion"]
    right = sum(row.get(name, 0) for name, row in table.items())
    assert right / kept["validation"]["rows"] == report["metrics"]["eval_accuracy"]
    log = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    (entry,) = [entry for entry in log if "sparsity" in entry]  # constant pruning holds one mask
    assert (entry["step"], entry["epoch"]) == (0, 0)
    assert entry["sparsity"] == pytest.approx(report["totals"]["prunable_sparsity"], abs=1e-4)
