"""A training into the folder of another one: nothing is mixed, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from resparse.errors import UserError
from support import tiny
from support.tiny import contents, train

pytestmark = pytest.mark.usefixtures("one_thread")

OTHER = tiny.RECIPE.replace("init_lr: 2e-3", "init_lr: 1e-3")


def test_the_finished_model_of_another_command_makes_room(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checkpoints are not gone on from, and all of it stays."""
    output, saving = tmp_path / "run", {"save_strategy": "steps", "save_steps": 6}
    train(pruned_model, rows_folder, output, **saving)
    first = contents(output)
    train(pruned_model, rows_folder, output, recipe=OTHER, **saving)
    said = capsys.readouterr().err
    assert "held the finished model of another command: it is run-1 now" in " ".join(said.split())
    assert "Going on from" not in said
    assert contents(tmp_path / "run-1") == first
    assert "0.001" in (output / "recipe.yaml").read_text(encoding="utf-8")
    train(pruned_model, rows_folder, output, recipe=OTHER, seed=7, save_strategy="no")
    assert contents(tmp_path / "run-1") == first and (tmp_path / "run-2" / "checkpoint-18").is_dir()


def test_the_same_command_does_not(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    train(pruned_model, rows_folder, tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="holds a model already"):
        train(pruned_model, rows_folder, tmp_path / "run")
    assert contents(tmp_path) == before


def test_a_folder_that_the_run_reads_stays(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    train(pruned_model, rows_folder, tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="holds a model already"):
        train(pruned_model, rows_folder, tmp_path / "run", recipe=OTHER, distill_teacher=tmp_path / "run")
    assert contents(tmp_path) == before


def test_a_run_that_cannot_begin_moves_nothing(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    train(pruned_model, rows_folder, tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(UserError):
        train(pruned_model, rows_folder, tmp_path / "run", train_file=rows_folder / "missing.csv")
    with pytest.raises(UserError):
        train(tmp_path / "nothing", rows_folder, tmp_path / "run")
    assert contents(tmp_path) == before
