"""The trainer under a recipe: rate, decay, zeros, the best model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from sparseml.modifiers import Clock
from sparseml.recipe import load_plan
from sparseml.session.session import Session
from support import tiny, trainers
from support.trainers import classifier, dataset, trainer

pytestmark = pytest.mark.usefixtures("one_thread")


RATES = """
modifiers:
  - !EpochRangeModifier
      end_epoch: 3
  - !SetLearningRateModifier
      learning_rate: 5e-4
      end_epoch: 1
  - !LearningRateFunctionModifier
      lr_func: cosine
      init_lr: 2e-3
      final_lr: 1e-5
      start_epoch: 1
      end_epoch: 2.5
  - !SetWeightDecayModifier
      weight_decay: 0.3
      start_epoch: 2
"""


class Watch(TrainerCallback):
    """Keeps what the optimizer used at each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.decays: list[list[float]] = []
        self.logged: list[float] = []

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.decays.append([group["weight_decay"] for group in optimizer.param_groups])

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "learning_rate" in logs:
            self.logged.append(logs["learning_rate"])


def test_rate_that_is_used_and_logged_is_the_schedule_s(tmp_path: Path) -> None:
    watch = Watch()
    made = trainer(tmp_path, RATES, callbacks=[watch])
    made.train()
    assert made.session is not None
    clock = made.clock()
    wanted = [made.session.schedule.rate(step, clock) for step in range(12)]
    assert len(set(wanted)) > 5
    assert watch.rates == watch.logged == wanted


def test_weight_decay_leaves_biases_and_norms_alone(tmp_path: Path) -> None:
    watch = Watch()
    made = trainer(tmp_path, RATES, callbacks=[watch])
    made.train()
    assert watch.decays == [[0.0, 0.0]] * 8 + [[0.3, 0.0]] * 4
    names = {id(parameter): name for name, parameter in made.model.named_parameters()}
    decayed, spared = (
        {names[id(parameter)] for parameter in group["params"]} for group in made.optimizer.param_groups
    )
    assert all(name.endswith("weight") and "LayerNorm" not in name for name in decayed)
    assert all(name.endswith("bias") or "LayerNorm" in name for name in spared)


def test_what_begins_later_wins_on_resume_too_whatever_the_text_s_order() -> None:
    plan = load_plan(
        """
modifiers:
  - !SetWeightDecayModifier
      weight_decay: 0.2
      start_step: 5
  - !SetWeightDecayModifier
      weight_decay: 0.1
      start_step: 2
"""
    )
    student = classifier()
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.0)
    decayed = frozenset(id(parameter) for parameter in student.parameters())
    for step in (0, 4, 5, 9):
        session = Session(plan, student)
        for resumed in range(step, 10):
            if resumed == step:
                session.begin(Clock(10, 10), step, optimizer, decayed)
            else:
                session.before_step(resumed)
            session.after_step()
        assert optimizer.param_groups[0]["weight_decay"] == 0.2, step


def test_evaluation_of_int8_stays_in_float32(tmp_path: Path) -> None:
    made = trainer(tmp_path, tiny.RECIPE, bf16_full_eval=True)
    assert not made.args.bf16_full_eval
    assert made.session is not None and any("float32" in note for note in made.session.run.notes)
    assert trainer(tmp_path, RATES, bf16_full_eval=True).args.bf16_full_eval


class Zeros(TrainerCallback):
    """Checks after every step that pruned weights are zero; counts the steps, and the weights that moved."""

    def __init__(self, start: Any) -> None:
        self.pruned = {name: p.detach() == 0 for name, p in start.named_parameters() if "encoder" in name}
        self.steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        parameters = dict(model.named_parameters())
        for name, pruned in self.pruned.items():
            if name.endswith("weight") and "LayerNorm" not in name:
                assert bool((parameters[name][pruned] == 0).all()), f"{name} at step {state.global_step}"
        self.steps += 1


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_zeros_are_zero_after_every_step(tmp_path: Path, bf16: bool) -> None:
    start = classifier(dropout=0.1)
    watch = Zeros(start)
    before = start.bert.encoder.layer[0].output.dense.weight.detach().clone()
    made = trainer(
        tmp_path, tiny.RECIPE, model=start, bf16=bf16, callbacks=[watch], weight_decay=0.1, learning_rate=1e-2
    )
    made.train()
    made.save_model()
    assert watch.steps == 12
    after = start.bert.encoder.layer[0].output.dense.weight.detach()
    assert torch.equal(after == 0, before == 0)
    assert not torch.equal(after, before)
    saved = load_file(tmp_path / "model.safetensors")
    for name, pruned in watch.pruned.items():
        if pruned.any() and name.endswith("weight"):
            assert torch.equal(saved[name] == 0, pruned), name


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_fake_quantization_is_computed_in_float32(
    tmp_path: Path, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparseml.quantization import fake_quantize

    seen: set[tuple[torch.dtype, torch.dtype]] = set()
    arithmetic = fake_quantize.fake_quantize

    def watched(x: Tensor, scale: Tensor, *rest: Any) -> Tensor:
        result = arithmetic(x, scale, *rest)
        seen.add((x.dtype, result.dtype))
        return result

    monkeypatch.setattr(fake_quantize, "fake_quantize", watched)
    made = trainer(tmp_path, tiny.RECIPE, bf16=bf16)
    linear_inputs: set[torch.dtype] = set()
    made.model.bert.encoder.layer[0].output.dense.register_forward_hook(
        lambda module, given, result: linear_inputs.add(result.dtype)
    )
    made.train()
    assert seen == {(torch.float32, torch.float32)}
    assert (torch.bfloat16 in linear_inputs) == bf16


def test_looking_more_often_does_not_change_the_end(tmp_path: Path) -> None:
    ends = []
    for name, strategy in (("never", "no"), ("often", "steps")):
        given = classifier(dropout=0.2)
        settings = {"eval_strategy": strategy, "eval_steps": 2, "seed": 3}
        trainer(tmp_path / name, tiny.RECIPE, model=given, eval_dataset=dataset(rows=8), **settings).train()
        ends.append(given.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


class Scores:
    """Says beforehand how good each evaluation will have been."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)

    def __call__(self, _: Any) -> dict[str, float]:
        return {"accuracy": next(self.scores)}


@pytest.mark.parametrize(
    ("after", "chosen"), [(None, "checkpoint-8"), (2, "checkpoint-12")], ids=["after QAT", "after an epoch"]
)
def test_best_model_is_one_that_the_recipe_is_done_with(
    tmp_path: Path, after: int | None, chosen: str
) -> None:
    """QAT begins in the second epoch: the best score, of the first, does not count; its scales come with it."""
    settings: dict[str, Any] = {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
    }
    made = trainer(
        tmp_path,
        tiny.RECIPE,
        eval_dataset=dataset(rows=8),
        compute_metrics=Scores([0.9, 0.7, 0.6]),
        **settings,
    )
    if after is not None:
        made._bridge._best_after = after
    made.train()
    assert Path(made.state.best_model_checkpoint).name == chosen
    made.save_model()
    for name in ("model.safetensors", "modifiers.safetensors"):
        ours, best = load_file(tmp_path / name), load_file(tmp_path / chosen / name)
        assert ours.keys() == best.keys()
        assert all(torch.equal(ours[key], best[key]) for key in ours)


def test_recipe_s_epochs_win(tmp_path: Path) -> None:
    made = trainer(tmp_path, RATES, num_train_epochs=9)
    assert made.train().global_step == 12


def test_recipe_without_epochs_or_rate_leaves_both_to_the_arguments(tmp_path: Path) -> None:
    watch = Watch()
    made = trainer(tmp_path, tiny.DISTILLATION, num_train_epochs=2, learning_rate=1e-3, callbacks=[watch])
    assert made.train().global_step == 8
    assert watch.rates == pytest.approx([1e-3 * (1 - step / 8) for step in range(8)])


def test_second_call_of_train_starts_over(tmp_path: Path) -> None:
    """A notebook calls train() twice: hooks are not set twice, and zeros stay."""
    given = classifier()
    made = trainer(tmp_path, tiny.RECIPE, model=given)
    before = given.bert.encoder.layer[0].output.dense.weight == 0
    made.train()
    made.train()
    weight = given.bert.encoder.layer[0].output.dense.weight
    assert torch.equal(weight == 0, before)
    assert not weight._backward_hooks


def changed(**attributes: Any) -> Any:
    """Makes training arguments with attributes as they are on another machine."""

    def make(**settings: Any) -> TrainingArguments:
        made = TrainingArguments(**settings)
        for name, value in attributes.items():
            setattr(made, name, value)
        return made

    return make


def test_a_process_that_sees_four_gpus_trains_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Trainer would take all by DataParallel, with batches four times as large."""
    monkeypatch.setattr(trainers, "TrainingArguments", changed(_n_gpu=4))
    run = trainer(tmp_path, RATES)
    assert "One of 4 GPUs is used" in capsys.readouterr().err
    assert run.clock().steps_per_epoch == 4
    assert not isinstance(run._wrap_model(run.model), torch.nn.DataParallel)
