"""A training into the folder of another one: nothing is mixed, nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from resparse import console
from resparse.errors import UserError
from sparseml.fingerprint import Fingerprint, Mark, read_mark
from sparseml.session.session import Session
from sparseml.training.output_folder import set_aside
from support import tiny
from support.tiny import contents, train

pytestmark = pytest.mark.usefixtures("one_thread")


def flat(said: str) -> str:
    return " ".join(said.split())


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
    assert "held an earlier run, made of something else (what --recipe holds): it is run-1 now" in flat(said)
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


SAVING = {"save_strategy": "steps", "save_steps": 6}


@pytest.fixture
def data(rows_folder: Path, tmp_path: Path) -> Path:
    """A copy of the rows to change."""
    return Path(shutil.copytree(rows_folder, tmp_path / "data"))


def correct(data: Path) -> None:
    """Exchange the labels of all training rows."""
    text = (data / "train.csv").read_text()
    swapped = text.replace("negative", "?").replace("positive", "negative").replace("?", "positive")
    assert swapped != text
    (data / "train.csv").write_text(swapped)


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the next training in a step."""
    after_step = Session.after_step

    def interrupted(self: Session) -> None:
        if self.run.step == step:
            monkeypatch.setattr(Session, "after_step", after_step)
            raise KeyboardInterrupt
        after_step(self)

    monkeypatch.setattr(Session, "after_step", interrupted)


@pytest.mark.parametrize("stopped", [False, True], ids=["finished", "stopped"])
def test_corrected_data_are_trained_on(
    pruned_model: Path,
    data: Path,
    tmp_path: Path,
    stopped: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The result is that of the same command in a folder of its own, and the older one is kept."""
    if stopped:
        stop_after(8, monkeypatch)
        assert console.run(lambda: train(pruned_model, data, tmp_path / "run", **SAVING) and None) == 130
    else:
        train(pruned_model, data, tmp_path / "run", **SAVING)
    first = contents(tmp_path / "run")
    correct(data)
    capsys.readouterr()
    train(pruned_model, data, tmp_path / "run", **SAVING)
    said = flat(capsys.readouterr().err)
    assert "made of something else (what --train_file holds): it is run-1 now" in said
    assert "Going on from" not in said
    assert contents(tmp_path / "run-1") == first
    train(pruned_model, data, tmp_path / "alone", **SAVING)
    assert (
        contents(tmp_path / "run")["model.safetensors"] == contents(tmp_path / "alone")["model.safetensors"]
    )


def test_copies_are_gone_on_with(
    pruned_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Bytes count: not names, times, or how the run is shown and saved."""
    stop_after(8, monkeypatch)
    assert console.run(lambda: train(pruned_model, data, tmp_path / "run", **SAVING) and None) == 130
    shutil.copytree(pruned_model, tmp_path / "start")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("train.csv", "validation.csv"):
        (elsewhere / name).write_bytes((data / name).read_bytes())
    more = {"save_strategy": "epoch", "logging_steps": 3, "eval_strategy": "epoch", "disable_tqdm": True}
    train(tmp_path / "start", elsewhere, tmp_path / "run", recipe=tiny.RECIPE + "\n# the same", **more)
    assert "Going on from" in flat(capsys.readouterr().err)
    train(pruned_model, data, tmp_path / "whole", **SAVING)
    assert (
        contents(tmp_path / "run")["model.safetensors"] == contents(tmp_path / "whole")["model.safetensors"]
    )


def test_only_what_the_run_wrote_is_moved(
    pruned_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A project's folder as the output: its data, notes, and files called like a run's stay where they are."""
    monkeypatch.chdir(data)
    (data / "README.md").write_text("my project")
    (data / "runs").mkdir()
    (data / "runs" / "list.txt").write_text("my runs")
    own = contents(data)
    train(pruned_model, Path(), Path(), **SAVING)
    first = {name: digest for name, digest in contents(data).items() if name not in own}
    correct(data)
    own = {name: contents(data)[name] for name in own}
    train(pruned_model, Path(), Path(), **SAVING)
    assert "all others stay" in flat(capsys.readouterr().err)
    assert contents(data / "earlier-1") == first
    assert {name: contents(data)[name] for name in own} == own
    assert {path.name for path in data.iterdir()} == {
        *(name for name in [*first, *own] if "/" not in name),
        "earlier-1",
    }


@pytest.mark.parametrize("name", ["recipe.yaml", "config.json", "report.json"])
def test_files_of_the_users_are_not_replaced(
    pruned_model: Path, data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    (data / name).write_text(tiny.RECIPE)
    before = contents(data)
    with pytest.raises(UserError, match=name):
        train(pruned_model, Path(), Path(), recipe=name if name == "recipe.yaml" else tiny.RECIPE)
    assert contents(data) == before


def test_checkpoints_of_nobody_knows_what_are_not_gone_on_from(
    pruned_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stop_after(8, monkeypatch)
    assert console.run(lambda: train(pruned_model, data, tmp_path / "run", **SAVING) and None) == 130
    (tmp_path / "run" / "run.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(UserError, match="does not say what it is made of"):
        train(pruned_model, data, tmp_path / "run")
    assert contents(tmp_path) == before
    train(pruned_model, data, tmp_path / "run", resume_from_checkpoint=True)
    mark = read_mark(tmp_path / "run")
    assert mark is not None and mark.kept == []


def test_what_is_asked_for_is_done_with_a_warning(
    pruned_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stop_after(8, monkeypatch)
    assert console.run(lambda: train(pruned_model, data, tmp_path / "run", **SAVING) and None) == 130
    correct(data)
    train(pruned_model, data, tmp_path / "run", resume_from_checkpoint=True)
    assert "made of something else (what --train_file holds); gone on with" in flat(capsys.readouterr().err)


def test_a_stopped_replacement_does_not_go_on_from_what_it_replaces(
    pruned_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Stopped before its first checkpoint, and then repeated without --overwrite_output_dir."""
    train(pruned_model, data, tmp_path / "run", **SAVING)
    (tmp_path / "run" / "model.safetensors").unlink()
    correct(data)
    stop_after(2, monkeypatch)
    again = {**SAVING, "overwrite_output_dir": True}
    assert console.run(lambda: train(pruned_model, data, tmp_path / "run", **again) and None) == 130
    train(pruned_model, data, tmp_path / "run", **SAVING)
    assert "Going on from" not in flat(capsys.readouterr().err)


def test_an_older_deployment_is_not_this_model_s(
    pruned_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained again in place, a folder still holds what was exported before."""
    train(pruned_model, data, tmp_path / "run", recipe=None, num_train_epochs=1)
    (tmp_path / "run" / "deployment").mkdir()
    (tmp_path / "run" / "deployment" / "model.onnx").touch()
    assert "exported before" not in capsys.readouterr().err
    again = {"overwrite_output_dir": True, "learning_rate": 1e-3, "num_train_epochs": 1}
    train(pruned_model, data, tmp_path / "run", recipe=None, **again)
    assert "deployment was exported before this training" in flat(capsys.readouterr().err)


def run_of(folder: Path, *more: str) -> None:
    """A folder as a run leaves it, with files of others."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", *more):
        (folder / name).write_text(name)
    (folder / "checkpoint-6").mkdir()
    Mark(Fingerprint({}, {})).write(folder)


@pytest.mark.parametrize("how", ["link", "working folder", "others' files"])
def test_where_the_folder_itself_has_to_stay(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path / "out", *(["notes.txt"] if how == "others' files" else []))
    folder = tmp_path / "out"
    if how == "link":
        (tmp_path / "link").symlink_to(folder)
        set_aside(tmp_path / "link", "another")
    elif how == "working folder":
        monkeypatch.chdir(folder)
        set_aside(Path(), "another")
    else:
        set_aside(folder, "another")
    assert {path.name for path in (folder / "earlier-1").iterdir()} == {
        *("config.json", "model.safetensors", "checkpoint-6", "run.json")
    }
    assert {path.name for path in folder.iterdir()} <= {"earlier-1", "notes.txt"}


def test_a_move_that_is_cut_short_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark goes last: until then the folder is known as the earlier run's."""
    folder = tmp_path / "out"
    run_of(folder, "notes.txt")
    rename, done = Path.rename, []

    def once(self: Path, target: Path) -> Path:
        if done:
            raise KeyboardInterrupt
        done.append(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(KeyboardInterrupt):
        set_aside(folder, "another")
    monkeypatch.setattr(Path, "rename", rename)
    assert read_mark(folder) is not None
    set_aside(folder, "another")
    moved = {path.name for number in (1, 2) for path in (folder / f"earlier-{number}").iterdir()}
    assert moved == {"config.json", "model.safetensors", "checkpoint-6", "run.json"}
