"""The accuracy benchmark's plan, its choice of settings, its tables, and its pool of processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROWS = {"tweeteval_emotion": 3200, "sick": 320, "glue_mrpc": 64_000}
MACHINE = {"cpu": "a processor", "cores": 2, "system": "Linux", "python": "3.12", "versions": {"torch": "2"}}


def _plan(**changes: Any) -> Any:
    from accuracy_runs import Plan, Settings

    settings = {
        "sets": ("tweeteval_emotion", "sick"),
        "starts": {"dense": "d", "pruned80": "a", "pruned90": "b"},
        "seeds": (7, 8, 9),
        "ablations": (),
    }
    return Plan(Settings(**{**settings, **changes}), ROWS)


def _everything(plan: Any, score: Any) -> list[Any]:
    """All runs in the order in which they become known, each scored as it is named."""
    scores: dict[str, float] = {}
    order: list[Any] = []
    while fresh := [run for run in plan.runs(scores) if run.key not in scores]:
        order.append(fresh[0])
        scores[fresh[0].key] = score(fresh[0])
    return order


def test_every_start_meets_the_same_grid_and_its_other_seeds_follow_the_best_of_it() -> None:
    plan = _plan()
    runs = _everything(plan, lambda run: -abs(run.cell.rate - 2e-4) - abs(run.cell.epochs - 10))
    for start in ("dense", "pruned80", "pruned90"):
        for dataset in ("tweeteval_emotion", "sick"):
            mine = [run for run in runs if (run.start, run.dataset) == (start, dataset)]
            assert {run.cell for run in mine if run.seed == 7} == set(plan.settings.grid)
            assert [(run.seed, run.cell.epochs, run.cell.rate) for run in mine if run.seed != 7] == [
                (8, 10, 2e-4),
                (9, 10, 2e-4),
            ]


def test_students_follow_their_teacher_of_the_same_seed_and_data() -> None:
    runs = _everything(_plan(ablations=("", "calibrated", "no_teacher")), lambda run: run.cell.rate)
    position = {run.key: index for index, run in enumerate(runs)}
    for run in runs:
        for needed in run.needs:
            assert position[needed.key] < position[run.key]
            assert (needed.seed, needed.dataset) == (run.seed, run.dataset)
        if run.start != "dense" and not run.variant:
            assert run.teacher.start == "dense"
        if run.variant == "no_teacher":
            assert run.needs == ()
        if run.variant == "calibrated":
            assert run.trained.variant == "float"
            assert run.teacher is None


def test_a_guess_names_as_many_runs_as_come() -> None:
    plan = _plan(ablations=("", "solver", "epochs_13"), ablation_sets=("sick",))
    # The longest training wins, which is what a guess assumes.
    runs = _everything(plan, lambda run: run.cell.epochs + run.cell.rate)
    assert {run.key for run in runs} == {run.key for run in plan.runs({}, guess=True)}


def test_many_rows_bound_the_epochs() -> None:
    plan = _plan(sets=("glue_mrpc",), most_steps=4000)
    assert [(cell.epochs, cell.rate) for cell in plan.cells("glue_mrpc")] == [(2, 1e-4), (2, 2e-4)]
    assert plan.cells("sick") == list(plan.settings.grid)


def test_what_ablations_are_compared_with_is_a_run_of_the_grid_or_none_of_its_cells() -> None:
    for most_steps, variant in ((1600, ""), (500, "base")):
        plan = _plan(
            sets=("tweeteval_emotion",),
            ablations=("", "no_teacher"),
            ablation_sets=("tweeteval_emotion",),
            most_steps=most_steps,
        )
        runs = plan.runs({}, guess=True)
        compared = {(run.start, run.variant) for run in runs if str(run.cell) == "10x0.0002"}
        assert ("pruned80", variant) in compared
        assert {run.cell for run in runs if not run.variant} == set(plan.cells("tweeteval_emotion"))


def _entry(dataset: str, start: str, seed: int, test: float, **changes: Any) -> dict[str, Any]:
    entry = {
        "key": f"{dataset}/{start}-{seed}-{changes}",
        "dataset": dataset,
        "start": start,
        "variant": "",
        "epochs": 10,
        "rate": 2e-4,
        "seed": seed,
        "test": test,
        "validation": 0.5,
        "metrics": {},
        "train_rows": 10,
        "test_rows": 10,
        "sparsity": 0.8,
        "quantized": 1.0,
        "compressed_bytes": 10_000_000,
        "steps": 100,
        "seconds": 50.0,
        "machine": MACHINE,
    }
    return entry | changes


@pytest.fixture
def outcomes() -> list[dict[str, Any]]:
    """Two data sets and seeds; of pruned80's settings on one the worse by validation are the better by test."""
    return [
        _entry("sick", "dense", 0, 0.8),
        _entry("sick", "dense", 1, 0.9),
        _entry("sick", "pruned80", 0, 0.6),
        _entry("sick", "pruned80", 1, 0.72),
        _entry("sick", "pruned80", 0, 0.99, validation=0.4, epochs=4),
        _entry("trec", "dense", 0, 0.5),
        _entry("trec", "dense", 1, 0.5),
        _entry("trec", "pruned80", 0, 0.5),
        _entry("trec", "pruned80", 1, 0.4),
        _entry("sick", "pruned80", 0, 0.4, variant="no_teacher"),
    ]


def test_recovery_is_of_the_settings_that_validation_chose(outcomes: list[dict[str, Any]]) -> None:
    from accuracy_table import Outcomes

    found = Outcomes(outcomes)
    assert found.recovery("sick", "pruned80") == pytest.approx({0: 0.75, 1: 0.8})
    # A mean over data sets for each seed: (0.75 + 1) / 2 and (0.8 + 0.8) / 2.
    assert found.mean_recovery("pruned80", ["sick", "trec"]) == pytest.approx([0.875, 0.8])


def test_tables_come_of_outcome_files_alone(
    outcomes: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import accuracy

    files = [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_text(json.dumps({"outcomes": [{**outcomes[0], "test": 0.1}, *outcomes[1:5]]}))
    files[1].write_text(json.dumps({"outcomes": [outcomes[0], *outcomes[5:]]}))
    words = ["accuracy.py", "--table", "--outcomes", *map(str, files), "--results", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    assert accuracy.main() == 0
    text = (tmp_path / "out" / "accuracy.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| sick ")]
    assert "85.0 ± 7.1" in line  # of dense; the later file's outcome of the first run counts
    assert "77.5%" in line
    assert "83.8 ± 5.3 %" in text
    assert "no task teacher" in text
    assert "a processor" in text


def test_a_broken_command_and_a_dead_process_are_failures_and_the_pool_goes_on(tmp_path: Path) -> None:
    from training_pool import TrainingPool

    with TrainingPool(1, {}) as pool:
        pool.submit("broken", ["--do_train", "--no_such_flag"], tmp_path / "broken.txt")
        (finished,) = pool.wait(120)
        assert (finished.name, finished.report) == ("broken", None)
        assert "no_such_flag" in (tmp_path / "broken.txt").read_text()

        pool.submit("dead", ["--do_train"], tmp_path / "dead.txt")
        pool._workers[0].process.kill()
        (finished,) = pool.wait(120)
        assert (finished.name, finished.report) == ("dead", None)

        pool.submit("again", ["--no_such_flag"], tmp_path / "again.txt")
        (finished,) = pool.wait(120)
        assert finished.name == "again"
        assert "no_such_flag" in (tmp_path / "again.txt").read_text()
