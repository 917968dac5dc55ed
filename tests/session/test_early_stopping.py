"""Early stopping: what counts, that phases are kept whole, and that a resumed run stops where it would have."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseml.options import early_stopping
from sparseml.options.table import ArgumentError
from sparseml.session.early_stopping import standing
from sparseml.tasks import load_task
from sparseml.training.arguments import parse
from support import tiny

# Six epochs of six steps, quantized from the end of the second; a rate so low that nothing is learned.
EPOCHS, STEPS, QUANTIZED_AFTER = 6, 6, 2
RECIPE_ARGS = f"num_epochs={EPOCHS},qat_start_epoch={QUANTIZED_AFTER},observer_epoch=5,init_lr=1e-12"
# No difference of losses is a gain above this.
NEVER = 100.0


def run(pruned_model: Path, rows_folder: Path, output: Path, **more: Any) -> dict[str, Any]:
    arguments = {"early_stopping_patience": 1, "early_stopping_threshold": NEVER, "save_strategy": "epoch"}
    return tiny.train(pruned_model, rows_folder, output, recipe_args=RECIPE_ARGS, **{**arguments, **more})


@given(st.lists(st.floats(-5, 5) | st.just(math.nan), max_size=12), st.booleans(), st.floats(0, 2))
def test_the_count_is_since_the_last_gain(values: list[float], greater: bool, threshold: float) -> None:
    """Against the definition: each evaluation is a gain on the last one that was a gain, or none."""
    gains: list[int] = []
    for index, value in enumerate(values):
        better = not gains or (value - values[gains[-1]]) * (1 if greater else -1) > threshold
        if better and not math.isnan(value):
            gains.append(index)
    found = standing(list(enumerate(values)), greater, threshold)
    last = gains[-1] if gains else None
    assert found.best_step == last
    assert found.without_gain == (len(values) - 1 - last if last is not None else len(values))


@pytest.mark.usefixtures("one_thread")
def test_phases_are_kept_whole_and_a_resumed_run_stops_there_too(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(pruned_model, rows_folder, tmp_path / "whole")
    # The first evaluation that counts is the first of a quantized model; the next one is no gain.
    first, last = (QUANTIZED_AFTER + 1) * STEPS, (QUANTIZED_AFTER + 2) * STEPS
    assert report["early_stop"] == {"step": last, "of_steps": EPOCHS * STEPS, "best_step": first}
    assert "early stopping after step 24 of 36" in capsys.readouterr().err
    assert report["totals"]["quantized_layers"] == report["totals"]["quantizable_layers"]
    state = json.loads((tmp_path / "whole" / "trainer_state.json").read_text())
    assert state["best_global_step"] in (first, last), "a checkpoint of the last phase is loaded at the end"

    for step in (first, last):  # between two evaluations, and once the run had been stopped
        checkpoint = str(tmp_path / "whole" / f"checkpoint-{step}")
        again = run(pruned_model, rows_folder, tmp_path / f"from-{step}", resume_from_checkpoint=checkpoint)
        assert again["early_stop"] == report["early_stop"]
        assert tiny.bits(tmp_path / f"from-{step}") == tiny.bits(tmp_path / "whole")


@pytest.mark.usefixtures("one_thread")
def test_a_recipe_that_is_final_only_at_its_end_is_not_cut_short(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "num_epochs=2,qat_start_epoch=1.99,observer_epoch=2,init_lr=1e-12"
    report = tiny.train(
        pruned_model,
        rows_folder,
        tmp_path / "run",
        recipe_args=late,
        early_stopping_patience=1,
        early_stopping_threshold=NEVER,
    )
    assert "early_stop" not in report
    assert "has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ({}, {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}),
        (
            {"eval_strategy": "steps", "eval_steps": 50},
            {"save_strategy": "steps", "save_steps": 50, "load_best_model_at_end": True},
        ),
        ({"save_strategy": "no"}, {"save_strategy": "no", "load_best_model_at_end": None}),
        ({"load_best_model_at_end": False}, {"save_strategy": None, "load_best_model_at_end": False}),
    ],
)
def test_what_is_not_given_is_chosen(values: dict[str, Any], chosen: dict[str, Any]) -> None:
    arguments = {"early_stopping_patience": 2, **values}
    early_stopping.fit(arguments)
    assert {name: arguments.get(name) for name in chosen} == chosen


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"early_stopping_patience": 0}, "at least 1"),
        ({"early_stopping_patience": 1, "early_stopping_threshold": -0.1}, "at least 0"),
        ({"early_stopping_threshold": 0.1}, "not given"),
        ({"early_stopping_patience": 1, "eval_strategy": "no"}, "counts evaluations"),
    ],
)
def test_what_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        early_stopping.fit(dict(values))


def test_in_a_guided_run_checkpoints_are_still_removed_at_the_end(rows_folder: Path, tmp_path: Path) -> None:
    arguments = parse(
        load_task(),
        train_file=str(rows_folder / "train.csv"),
        output_dir=str(tmp_path / "run"),
        early_stopping_patience=2,
    )
    assert arguments.training.load_best_model_at_end and arguments.guided is not None
    assert not arguments.guided.keeps_checkpoints()
