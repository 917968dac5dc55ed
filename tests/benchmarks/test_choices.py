"""The benchmark of choices: the same rows for all, batches that lose no text, and what is tabled of the outcomes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import choices_trained
    import data

    monkeypatch.setenv("RESPARSE_DATA", str(tmp_path / "data"))
    for split, count in (("train", 40), ("validation", 6), ("test", 30)):
        rows = [
            {"text": f"{split} {index}", "label": index % 2, "label_name": "ab"[index % 2], "other": 1}
            for index in range(count)
        ]
        path = tmp_path / "data" / "tiny" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = data.DataSet("tiny", ("text",))
    return choices_trained.Place(tmp_path / "work", dataset, most_rows=10)


@pytest.fixture
def opponent() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "choices_worker", BENCHMARKS / "opponents" / "choices_worker.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_training_rows_are_drawn_and_classes_are_names(place: Any) -> None:
    place.write_rows()
    counts = {}
    for split in ("train", "validation", "test"):
        rows = [json.loads(line) for line in place.file(split).read_text().splitlines()]
        assert rows == place.rows[split]
        assert all(row.keys() == {"text", "label"} and row["label"] in "ab" for row in rows)
        counts[split] = len(rows)
    assert counts == {"train": 10, "validation": 6, "test": 30}
    before = place.file("train").read_text()
    place.write_rows()
    assert place.file("train").read_text() == before


def test_a_training_names_its_teacher_and_a_calibration_does_not_train(place: Any) -> None:
    import choices_trained

    student = choices_trained.command(place, "pruned90")
    assert student[student.index("--distill_teacher") + 1] == str(place.model("dense"))
    assert "pruned90" in student[student.index("--model_name_or_path") + 1] and "--do_train" in student
    calibrated = choices_trained.command(place, "dense-int8")
    assert calibrated[calibrated.index("--model_name_or_path") + 1] == str(place.model("dense"))
    assert "--one_shot" in calibrated and "--do_train" not in calibrated and "--recipe_args" not in calibrated


@pytest.mark.parametrize("size", [1, 4, 64])
def test_batches_hold_every_text_once_and_labels_come_in_order(opponent: ModuleType, size: int) -> None:
    texts = [["a" * (7 * index % 11), "b"] for index in range(21)]
    batches = opponent.batches(texts, size)
    assert sorted(index for batch in batches for index in batch) == list(range(21))
    assert all(len(batch) <= size for batch in batches)
    if size > 1:
        lengths = [len(texts[index][0]) for batch in batches for index in batch]
        assert lengths == sorted(lengths)
    found = opponent.labels_of(lambda chosen: [len(first) for first, _ in chosen], texts)
    assert found == [str(len(first)) for first, _ in texts]


def test_a_rest_is_filled_up_to_a_power_of_two(opponent: ModuleType) -> None:
    assert [opponent.padded_count(count) for count in (1, 2, 3, 16, 17)] == [1, 2, 4, 16, 32]


def test_speeds_are_medians_without_the_warm_up() -> None:
    import choices

    class Worker:
        def __init__(self, slow: float) -> None:
            self.slow, self.asked = slow, 0

        def ask(self, request: str) -> dict[str, float]:
            self.asked += 1
            seconds = 1000.0 if self.asked == 1 else self.slow
            return {"seconds": seconds, "cpu_seconds": 2 * seconds}

    workers: Any = {"a": Worker(0.5), "b": Worker(2.0)}
    found = choices.speeds(workers, [1], 100, 3)
    assert found["a"]["1"] == {"texts_per_second": 200, "cpu_ms_per_text": 10}
    assert found["b"]["1"]["texts_per_second"] == 50
    assert workers["a"].asked == choices.WARM_UP + 3


def test_an_outcome_is_tabled_with_its_best_batch_or_without_a_speed() -> None:
    import choices

    found = {
        "title": "fast",
        "accuracy": 0.5,
        "peak_mib": 100.0,
        "size_mib": 2.5,
        "training_seconds": 240.0,
        "training_rows": 1500,
        "test_rows": 30,
        "speed": {
            "1": {"texts_per_second": 1000.0, "cpu_ms_per_text": 1.5},
            "16": {"texts_per_second": 4000.0, "cpu_ms_per_text": 0.5},
        },
    }
    assert choices.line(found) == [
        "fast",
        "50.0%",
        "1,000",
        "4,000 (16)",
        "1.50",
        "100 MiB",
        "2.5 MiB",
        "4 min",
        "1,500",
    ]
    assert choices.line({**found, "speed": None, "training_seconds": None})[2:5] == ["–"] * 3
    _, heading, block = choices.tables({"tiny": {"fast": found}}, {"tiny": {"dense": 180.0}}, 2)
    assert "30 test rows" in heading and "dense 3 minutes" in heading and "4,000 (16)" in block


def test_outcomes_are_collected_in_the_order_of_the_contestants(tmp_path: Path) -> None:
    import choices

    for key in ("ours-80", "tfidf"):
        path = tmp_path / "tiny" / "outcomes" / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"folder": "/somewhere", "accuracy": 0.5}))
    (tmp_path / "tiny" / "speed.json").write_text(json.dumps({"contestants": {"tfidf": {"1": {}}}}))
    found = choices.collected(tmp_path)["tiny"]
    assert list(found) == ["tfidf", "ours-80"]
    assert found["tfidf"]["speed"] == {"1": {}} and found["ours-80"]["speed"] is None
    assert "folder" not in found["tfidf"]


def test_only_trainings_without_a_cost_of_their_own_are_earlier_ones(tmp_path: Path) -> None:
    import choices

    for name in ("dense", "dense-int8"):
        path = tmp_path / "tiny" / "trained" / name / "model" / "train_results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"train_runtime": 60.0}))
    (tmp_path / "tiny" / "trained" / "dense-int8" / "cost.json").write_text("{}")
    assert choices.trained_earlier(tmp_path) == {"tiny": {"dense": 60.0}}


def test_a_contestant_needs_the_python_of_its_environment() -> None:
    from choices_contestants import CHOICES, ENVIRONMENTS

    pythons = dict.fromkeys(ENVIRONMENTS)
    assert CHOICES["tfidf"].python(pythons) == sys.executable
    assert CHOICES["setfit"].python(pythons) is None
    assert CHOICES["setfit"].python({**pythons, "setfit": Path("/env/python")}) == "/env/python"
