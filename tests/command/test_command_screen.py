"""What a person sees: our own lines and nothing of the libraries'; a bar that goes away; scores that are no numbers."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sparseml.session import progress
from sparseml.session.session import Session
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")

OURS = [
    r"input column: 'text'",
    r"labels: 2 classes from column 'label': negative, positive",
    r"new, to be trained: classifier",
    r"recipe inline recipe",
    r"epochs +learning rate +at work +what changes *",
    r"[\d.]+ to [\d.]+ +[\d.e-]+ to [\d.e-]+ +[\w, ]+",
    r"The teacher .* agrees with [\d.]+% of the training labels\.",
    r"epoch [\d.]+/3 · (loss [\d.]+ · )?lr [\d.e-]+ · sparsity [\d.]+% · masks(, | · )?.*",
    r"epoch [\d.]+: loss [\d.]+, accuracy [\d.]+(, (f1_macro|f1_weighted|balanced_accuracy) [\d.]+){3}",
    r"QuantizationModifier rounds the outputs of Linear layers, too, .*",
    r"predictions of 16 rows: .*",
    r"model: .*",
]


@pytest.mark.slow
def test_screen_holds_our_lines_alone(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    teacher = tiny.bert(tmp_path / "teacher", names=["negative", "positive"])
    flags = {
        "model_name_or_path": pruned_model,
        "train_file": rows_folder / "train.csv",
        "validation_file": rows_folder / "validation.csv",
        "test_file": tiny.write(tmp_path / "test.csv", tiny.rows(16, seed=2)),
        "recipe": tiny.RECIPE + tiny.DISTILLATION,
        "distill_teacher": teacher,
        "output_dir": tmp_path / "run",
        "max_seq_length": 32,
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "logging_steps": 2,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    switches = ["--do_train", "--do_eval", "--do_predict", "--bf16"]
    done = subprocess.run(
        [sys.executable, "-m", "sparseml.transformers.text_classification", *words, *switches],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert [line for line in said if not any(re.fullmatch(pattern, line) for pattern in OURS)] == []
    assert done.stdout.splitlines()[0].strip() == "result"
    assert all(re.fullmatch(r"[\w ,]+?  +[\d.]+.*", line) for line in done.stdout.splitlines()[1:])


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=screen, force_terminal=True, width=160))
    return screen


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def test_bar_shows_epoch_loss_rate_sparsity_and_what_is_at_work(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = terminal(monkeypatch)
    train(pruned_model, rows_folder, tmp_path / "run", logging_steps=1)
    last = screen.getvalue().rpartition("training")[2]
    assert re.search(r"epoch 3\.00/3 · loss \d\.\d+ · lr \d\.\de-\d+ · sparsity 7\d\.\d%", last)
    assert "masks · QAT" in last
    assert screen.getvalue().rindex(SHOW) > screen.getvalue().rindex(HIDE)


def test_bar_goes_away_after_an_error(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the terminal is left without a cursor."""
    screen = terminal(monkeypatch)

    def interrupt(self: Session) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(pruned_model, rows_folder, tmp_path / "run")
    assert screen.getvalue().rindex(SHOW) > screen.getvalue().rindex(HIDE)


def test_scores_that_are_no_numbers(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that diverged still ends with a report, which is JSON, and is told."""
    recipe = (
        tiny.RECIPE
        + "other_modifiers:\n  - !SetParamModifier\n      params: classifier.bias\n      val: .nan\n"
    )
    report = train(pruned_model, rows_folder, tmp_path / "run", recipe=recipe, do_eval=True)
    assert report["metrics"]["eval_loss"] is None
    assert "eval_loss: not a finite number" in capsys.readouterr().err
    kept = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert kept["metrics"]["eval_loss"] is None
