"""A run that is stopped and goes on ends with the same bits as the run that was never stopped."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resparse import console
from resparse.errors import UserError
from sparseml.session import checkpoint
from sparseml.session.checkpoint import CheckpointError
from sparseml.session.session import Session
from support import tiny
from support.tiny import bits, contents, train

pytestmark = pytest.mark.usefixtures("one_thread")

# 48 rows in batches of 8 are 6 steps an epoch, 18 in all; QAT begins at step 9, ranges are held from 14.
BEFORE_QAT, EPOCH_END, FIRST_OF_QAT, IN_QAT, HELD, LAST = 4, 6, 9, 11, 15, 18

FREEZING = """
freezing_modifiers:
  - !TrainableParamsModifier
      params: re:bert.embeddings.*
      trainable: False
      start_epoch: 0.5
      end_epoch: 2.0
  - !SetParamModifier
      params: classifier.bias
      val: 0.25
      start_epoch: 0.5
  - !SetWeightDecayModifier
      weight_decay: 0.1
      start_epoch: 1.0
"""
STEPS = """
modifiers:
  - !LearningRateFunctionModifier
      lr_func: cosine
      init_lr: 2e-3
      final_lr: 1e-4
      start_step: 0
      end_step: 18
  - !ConstantPruningModifier
      params: __ALL_PRUNABLE__
  - !QuantizationModifier
      start_step: 9
      disable_quantization_observer_step: 14
      scheme:
        weights: {symmetric: True, strategy: channel}
"""


@dataclass
class Case:
    """A recipe with the arguments that it runs under."""

    recipe: str = tiny.RECIPE
    arguments: dict[str, Any] = field(default_factory=dict)


CASES = {
    "length grouping": Case(),
    "random order": Case(arguments={"train_sampling_strategy": "random"}),
    "accumulation": Case(arguments={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
    "distillation": Case(tiny.RECIPE + tiny.DISTILLATION, {"distill_teacher": "self"}),
    "freezing and setting": Case(tiny.RECIPE + FREEZING, {"train_sampling_strategy": "random"}),
    "in steps, by channel": Case(STEPS),
    "scores while training": Case(arguments={"eval_strategy": "epoch"}),
    "bfloat16": Case(arguments={"bf16": True}),
}


def assert_same(left: Path, right: Path) -> None:
    ours, theirs = bits(left), bits(right)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if ours[key] != theirs[key]] == []


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if index else []) for index, name in enumerate(CASES)],
)
def test_resumed_run_ends_with_the_same_bits(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, name: str
) -> None:
    case, whole = CASES[name], tmp_path / "whole"
    if "distill_teacher" in case.arguments:  # a new classifier teaches nothing
        pruned_model = tiny.bert(tmp_path / "start", names=["negative", "positive"])
    save = {"save_strategy": "steps", "save_steps": 1}
    train(pruned_model, rows_folder, whole, recipe=case.recipe, **save, **case.arguments)
    assert all(path.is_dir() for path in (whole / f"checkpoint-{step}" for step in range(1, LAST + 1)))
    everywhere = (BEFORE_QAT, EPOCH_END, FIRST_OF_QAT, IN_QAT, HELD, LAST)
    for step in everywhere if name != "length grouping" else (BEFORE_QAT, IN_QAT):
        resumed = tmp_path / f"from-{step}"
        from_there = {"resume_from_checkpoint": whole / f"checkpoint-{step}"}
        train(pruned_model, rows_folder, resumed, recipe=case.recipe, **from_there, **case.arguments)
        assert_same(resumed, whole)


@pytest.mark.slow
def test_interrupted_run_goes_on_by_itself(
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Interrupted inside a step, in the middle of an epoch, once before QAT and once within."""
    save = {"save_strategy": "steps", "save_steps": 2}
    train(pruned_model, rows_folder, tmp_path / "whole", **save)
    finish_step = Session.after_step
    interrupt_at = {5, 12}

    def interrupted(self: Session) -> None:
        if self.run.step in interrupt_at:
            interrupt_at.remove(self.run.step)
            raise KeyboardInterrupt
        finish_step(self)

    monkeypatch.setattr(Session, "after_step", interrupted)
    stopped = tmp_path / "stopped"
    for _ in range(2):
        assert console.run(lambda: train(pruned_model, rows_folder, stopped, **save) and None) == 130
    capsys.readouterr()
    train(pruned_model, rows_folder, stopped, **save)
    assert "Going on from" in (said := capsys.readouterr().err) and "checkpoint-12" in said
    assert_same(stopped, tmp_path / "whole")


@pytest.fixture(scope="module")
def stopped_run(pruned_model: Path, rows_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with checkpoints of steps 6, 12 and 18."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    train(pruned_model, rows_folder, folder, save_strategy="steps", save_steps=6)
    (folder / "report.json").unlink()  # written last: a stopped run has none
    return folder


@pytest.fixture
def run_folder(stopped_run: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(stopped_run, tmp_path / "run"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TRAINING_FILES = ["optimizer.pt", "scheduler.pt", "rng_state.pth"]
NEEDED = ["trainer_state.json", "model.safetensors", *TRAINING_FILES]


@pytest.mark.parametrize("harm", [truncate, Path.unlink], ids=["cut short", "missing"])
@pytest.mark.parametrize("name", [*NEEDED, "modifiers.safetensors", "recipe.yaml"])
def test_unfinished_checkpoint_is_refused(
    pruned_model: Path, rows_folder: Path, run_folder: Path, tmp_path: Path, name: str, harm: Any
) -> None:
    chosen = run_folder / "checkpoint-12"
    harm(chosen / name)
    before = contents(run_folder)
    with pytest.raises(UserError) as caught:
        train(pruned_model, rows_folder, tmp_path / "new", resume_from_checkpoint=chosen)
    assert "checkpoint-12" in str(caught.value)
    assert contents(run_folder) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", NEEDED)
def test_newest_complete_checkpoint_is_found(run_folder: Path, name: str) -> None:
    assert checkpoint.latest(run_folder) == run_folder / "checkpoint-18"
    truncate(run_folder / "checkpoint-18" / name)
    assert checkpoint.latest(run_folder) == run_folder / "checkpoint-12"
    (run_folder / "checkpoint-12" / name).unlink()
    assert checkpoint.latest(run_folder) == run_folder / "checkpoint-6"
    shutil.rmtree(run_folder / "checkpoint-6")
    assert checkpoint.latest(run_folder) is None
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        checkpoint.newest(run_folder)


@pytest.mark.parametrize("recipe", [None, tiny.RECIPE.replace("init_lr: 2e-3", "init_lr: 3e-3")])
def test_another_recipe_does_not_go_on(
    pruned_model: Path, rows_folder: Path, run_folder: Path, recipe: str | None
) -> None:
    before = contents(run_folder)
    with pytest.raises(CheckpointError, match="under another recipe"):
        train(pruned_model, rows_folder, run_folder, recipe=recipe, resume_from_checkpoint=True)
    assert contents(run_folder) == before


def test_recipe_does_not_go_on_from_a_run_without(
    pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    plain = {"save_strategy": "epoch", "num_train_epochs": 1}
    train(pruned_model, rows_folder, tmp_path / "run", recipe=None, **plain)
    (tmp_path / "run" / "report.json").unlink()
    with pytest.raises(CheckpointError, match="not saved by a run with a recipe"):
        train(pruned_model, rows_folder, tmp_path / "run", resume_from_checkpoint=True)


def test_finished_folder_is_no_checkpoint(
    pruned_model: Path, rows_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"optimizer\.pt"):
        train(pruned_model, rows_folder, tmp_path / "new", resume_from_checkpoint=run_folder)


def test_overwriting_removes_later_checkpoints_of_the_older_run(
    pruned_model: Path, rows_folder: Path, run_folder: Path
) -> None:
    """Else a stopped second run would go on from the first one's checkpoint."""
    train(
        pruned_model,
        rows_folder,
        run_folder,
        recipe_args="num_epochs=2,observer_epoch=1.75",
        save_strategy="steps",
        save_steps=6,
        overwrite_output_dir=True,
    )
    assert checkpoint.latest(run_folder) == run_folder / "checkpoint-12"
