"""Which folder a guided run writes to, and how it knows its own run again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sparseml.fingerprint import Mark
from sparseml.guided.folder import REPORT, SUMMARY, RunFolder, choose


@pytest.fixture(autouse=True)
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n")
    return path


def chosen(**values: Any) -> RunFolder:
    return choose({"train_file": "rows.csv", **values}, {})


def begin(**values: Any) -> RunFolder:
    folder = chosen(**values)
    folder.path.mkdir(parents=True, exist_ok=True)
    Mark(folder.made_of).write(folder.path)
    return folder


def finish(folder: RunFolder) -> None:
    for name in (REPORT, SUMMARY, "model.safetensors"):
        (folder.path / name).touch()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"train_file": "rows.csv"}, "rows-classifier"),
        ({"train_file": "deep/tweets/train.csv"}, "deep/tweets/tweets-classifier"),
        ({"train_file": "part-*.csv"}, "part-classifier"),
        ({"train_file": "rows.csv,more.csv"}, "rows-classifier"),
        ({"task_name": "sst2"}, "sst2-classifier"),
        ({"dataset_name": "owner/tweets", "dataset_config_name": "emotion"}, "tweets-emotion-classifier"),
    ],
)
def test_name(values: dict[str, Any], name: str, tmp_path: Path) -> None:
    (tmp_path / "deep" / "tweets").mkdir(parents=True)
    assert choose(values, {}).path.resolve() == tmp_path / name
    assert not (tmp_path / name).exists()


def test_beside_data_that_nobody_may_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed)  # root may write anywhere
    assert choose({"train_file": str(closed / "rows.csv")}, {}).path == tmp_path / "rows-classifier"


def test_the_same_command_knows_its_run_again() -> None:
    assert begin().state == "new"
    again = chosen()
    assert (again.path.name, again.state) == ("rows-classifier", "begun")
    finish(again)
    assert chosen().state == "done"
    assert chosen(overwrite_output_dir=True).state == "new"


def test_how_it_is_shown_is_not_what_it_is_about() -> None:
    begin()
    assert chosen(disable_tqdm=True, token="secret").state == "begun"
    assert "secret" not in (chosen().path / "run.json").read_text()


@pytest.mark.parametrize("change", ["data", "arguments"])
def test_another_run_gets_another_folder(change: str, rows: Path) -> None:
    begin()
    if change == "data":
        rows.write_text("text,label\nmore,1\n")
    folder = chosen(**({"seed": 1} if change == "arguments" else {}))
    assert (folder.path.name, folder.state) == ("rows-classifier-2", "new")
    assert chosen(overwrite_output_dir=True, seed=2).path.name == "rows-classifier-2"


def test_what_is_foreign_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "rows-classifier").mkdir()
    assert chosen().path.name == "rows-classifier"  # empty
    (tmp_path / "rows-classifier" / "notes.txt").touch()
    assert chosen().path.name == "rows-classifier-2"
    (tmp_path / "rows-classifier-2").write_text("a file")
    assert chosen().path.name == "rows-classifier-3"


def test_the_same_bytes_are_the_same_data(rows: Path) -> None:
    begin()
    copied = rows.with_name("copied")
    rows.rename(copied)
    rows.write_bytes(copied.read_bytes())
    os.utime(rows, (0, 0))
    assert chosen().state == "begun"


def test_a_bound_on_the_rows_makes_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run for trying out would pass for the whole one."""
    monkeypatch.setenv("RESPARSE_MAX_ROWS", "10")
    finish(begin())
    monkeypatch.delenv("RESPARSE_MAX_ROWS")
    assert chosen().state == "new"


def test_an_unfinished_run_of_something_else_is_not_gone_on_with() -> None:
    begin(output_dir="out")
    assert chosen(output_dir="out").state == "begun"
    assert chosen(output_dir="out", seed=1).state == "new"
    assert chosen(output_dir="out", overwrite_output_dir=True).state == "new"
