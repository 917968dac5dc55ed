"""SIGTERM in a training: it is saved, and goes on with the same bits."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from sparseml.session.stopping import EXIT_CODE
from sparseml.session.trainer import RecipeTrainer
from support.tiny import bits, train

pytestmark = pytest.mark.usefixtures("one_thread")

STEP = 11


class Terminates(TrainerCallback):
    """Sends this process SIGTERM in the middle of a step."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == STEP - 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_a_training_that_is_stopped_is_saved_and_goes_on(
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    strategy: str,
) -> None:
    train(pruned_model, rows_folder, tmp_path / "whole", save_strategy=strategy)
    stopped, before = tmp_path / "stopped", signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        made = RecipeTrainer.__init__
        patch.setattr(
            RecipeTrainer,
            "__init__",
            lambda self, *args, **more: (made(self, *args, **more), self.add_callback(Terminates()))[0],
        )
        with pytest.raises(SystemExit) as left:
            train(pruned_model, rows_folder, stopped, save_strategy=strategy)
    assert left.value.code == EXIT_CODE == 143
    assert "goes on from the newest checkpoint" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
    assert (stopped / f"checkpoint-{STEP}" / "trainer_state.json").is_file()
    assert not (stopped / "model.safetensors").exists()
    train(pruned_model, rows_folder, stopped, save_strategy=strategy)
    assert f"checkpoint-{STEP}" in capsys.readouterr().err
    assert bits(stopped) == bits(tmp_path / "whole")
