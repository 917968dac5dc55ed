"""How the accuracy benchmark carries its plan out: order, what is kept, what is not repeated. Nothing is trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SETS = ("tweeteval_emotion", "sick")
ROWS = {name: {"train": 320, "validation": 32, "test": 32} for name in SETS}


class Pool:
    """Stands in for `TrainingPool`: a training checks that what it reads is there, and writes its model.

    The first submitted ends first, `seconds` after it was waited for.
    """

    trained: list[str]
    failing: set[str]
    seconds = 0.0

    def __init__(self, jobs: int, environment: Any) -> None:
        self.jobs, self._queue = jobs, list[tuple[str, list[str]]]()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    @property
    def idle(self) -> bool:
        return len(self._queue) < self.jobs

    @property
    def running(self) -> list[str]:
        return [name for name, _ in self._queue]

    def submit(self, name: str, command: Sequence[str], log: Path) -> None:
        for flag in ("--distill_teacher", "--model_name_or_path"):
            value = command[command.index(flag) + 1]
            assert not value.startswith("/") or (Path(value) / "model.safetensors").is_file(), (name, flag)
        assert name not in self.running
        self._queue.append((name, list(command)))

    def wait(self, seconds: float | None) -> list[Any]:
        from training_pool import Finished

        time.sleep(self.seconds if seconds is None else min(seconds, self.seconds))
        if seconds is not None and seconds < self.seconds:
            return []
        name, command = self._queue.pop(0)
        self.trained.append(name)
        if name in self.failing:
            return [Finished(name, None, {}, 1.0)]
        model = Path(command[command.index("--output_dir") + 1])
        model.mkdir(parents=True)
        (model / "model.safetensors").write_text("weights")
        (model / "report.json").write_text("{}")
        # The longer and the faster training is the better one.
        worth = 1.0 if "10x0.0002" in name else 0.5
        report = {
            "metrics": {"eval_accuracy": worth, "predict_accuracy": worth},
            "totals": {"prunable_sparsity": 0.8, "quantized_share": 1.0, "compressed_bytes": 1},
        }
        return [Finished(name, report, {"cpu": "x"}, 1.0)]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    import accuracy_measure

    Pool.trained, Pool.failing, Pool.seconds = [], set(), 0.0
    monkeypatch.setattr(accuracy_measure, "TrainingPool", Pool)
    return Pool


def _measurement(folder: Path, earlier: Any = (), extra: Sequence[str] = (), **changes: Any) -> Any:
    from accuracy_measure import Measurement
    from accuracy_runs import Plan, Settings

    settings = {"sets": SETS, "starts": {"dense": "d", "pruned80": "a"}, "seeds": (0, 1)}
    plan = Plan(
        Settings(**{**settings, "ablations": (), **changes}), {name: ROWS[name]["train"] for name in SETS}
    )
    return Measurement(plan, folder, ROWS, extra, earlier)


@pytest.mark.parametrize("jobs", [1, 5])
def test_all_runs_come_once_after_what_they_need(tmp_path: Path, pool: type[Pool], jobs: int) -> None:
    measurement = _measurement(tmp_path, ablations=("", "calibrated", "float"), ablation_sets=("sick",))
    measurement.run(jobs, {})
    assert len(pool.trained) == len(set(pool.trained))
    # Three cells of the first seed and the best of the second, two starts, two sets; two ablations, two seeds.
    assert len(measurement.outcomes()) == 4 * 2 * 2 + 2 * 2
    assert measurement.failed == []
    kept = {path.parent.parent.name for path in tmp_path.glob("*/*/model/model.safetensors")}
    assert {name.split("-")[0] for name in kept} == {"dense", "pruned80"}
    assert all("-float-" in name for name in kept if name.startswith("pruned80"))


def test_what_has_finished_is_not_repeated_unless_its_command_changes(
    tmp_path: Path, pool: type[Pool]
) -> None:
    first = _measurement(tmp_path)
    first.run(2, {})
    pool.trained.clear()
    again = _measurement(tmp_path)
    again.run(2, {})
    assert pool.trained == []
    assert again.outcomes() == first.outcomes()
    _measurement(tmp_path, extra=["--bf16"]).run(2, {})
    assert len(pool.trained) == len(first.outcomes())


def test_outcomes_of_elsewhere_count_and_teachers_are_trained_again_where_they_are_needed(
    tmp_path: Path, pool: type[Pool]
) -> None:
    elsewhere = _measurement(tmp_path / "a")
    elsewhere.run(1, {})
    outcomes = elsewhere.outcomes()
    lost = "sick/pruned80-10x0.0002-1"
    pool.trained.clear()
    here = _measurement(tmp_path / "b", [entry for entry in outcomes if entry["key"] != lost])
    here.run(2, {})
    assert pool.trained == ["sick/dense-10x0.0002-1", lost]
    assert {entry["key"] for entry in here.outcomes()} == {entry["key"] for entry in outcomes}


def test_a_failure_is_told_and_what_needs_it_is_left_out(tmp_path: Path, pool: type[Pool]) -> None:
    pool.failing = {"sick/dense-10x0.0002-1"}
    measurement = _measurement(tmp_path)
    measurement.run(3, {})
    assert measurement.failed == ["sick/dense-10x0.0002-1"]
    missing = {"sick/dense-10x0.0002-1", "sick/pruned80-10x0.0002-1"}
    assert not missing & {entry["key"] for entry in measurement.outcomes()}
    assert len(measurement.outcomes()) == 16 - 2


def test_nothing_starts_that_would_end_after_the_deadline(tmp_path: Path, pool: type[Pool]) -> None:
    measurement = _measurement(tmp_path)
    measurement.run(1, {}, deadline=0.5)
    # The first takes a second, by its report.
    assert len(pool.trained) == len(measurement.outcomes()) == 1


def test_what_runs_at_the_deadline_is_ended(tmp_path: Path, pool: type[Pool]) -> None:
    pool.seconds = 60
    measurement = _measurement(tmp_path)
    began = time.monotonic()
    measurement.run(1, {}, deadline=0.2)
    assert time.monotonic() - began < 5
    assert measurement.outcomes() == []
