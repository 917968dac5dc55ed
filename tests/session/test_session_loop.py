"""The page of the loop (modifiers/base.py), held against the Trainer: which method is called when, and with what."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import PrivateAttr
from torch import Tensor, nn

from sparseml.modifiers import MODIFIERS, Clock, Modifier, ModifierError, Run
from sparseml.recipe import RecipeError, load_plan
from sparseml.session.session import Session
from support.trainers import classifier, dataset, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

LOG: list[str] = []


class WatchModifier(Modifier):
    """Writes down each of its calls."""

    label = "watching"
    one_shot = True

    tag: str = "w"
    batches: int = 0

    _seen: list[Tensor] = PrivateAttr(default_factory=list)

    def _note(self, run: Run, what: str) -> None:
        LOG.append(f"{self.tag}{run.step} {what}")

    def calibration_batches(self, run: Run) -> int:
        return self.batches

    def calibrate(self, run: Run, batches: Iterable[dict[str, Tensor]]) -> None:
        self._seen = [batch["input_ids"] for batch in batches]
        self._note(run, f"calibrate {len(self._seen)}")

    def on_start(self, run: Run) -> None:
        self._note(run, "start")

    def before_step(self, run: Run) -> None:
        self._note(run, "before")

    def mix_loss(
        self, run: Run, loss: Tensor, outputs: Mapping[str, Tensor], teacher_outputs: Mapping[str, Tensor]
    ) -> Tensor:
        self._note(run, "loss")
        return loss

    def after_backward(self, run: Run) -> None:
        self._note(run, "backward")

    def before_optimizer_step(self, run: Run) -> None:
        self._note(run, "optimizer")

    def after_step(self, run: Run) -> None:
        self._note(run, "after")

    def on_end(self, run: Run) -> None:
        self._note(run, "end")


@pytest.fixture(autouse=True)
def watching(monkeypatch: pytest.MonkeyPatch) -> None:
    LOG.clear()
    monkeypatch.setitem(MODIFIERS, "WatchModifier", WatchModifier)


def watch(**fields: Any) -> str:
    return "\n      ".join(["  - !WatchModifier", *(f"{name}: {value}" for name, value in fields.items())])


def recipe(*modifiers: str) -> str:
    return "\n".join(["modifiers:", *modifiers]) + "\n"


def watcher(made: Any, index: int = 0) -> WatchModifier:
    found = made.session.modifiers[index]
    assert isinstance(found, WatchModifier)
    return found


STEP = ["before", "loss", "backward", "optimizer", "after"]


def test_a_step_is_that_of_the_page(tmp_path: Path) -> None:
    trainer(tmp_path, recipe(watch(start_step=1, end_step=3))).train()
    assert ["w1 start", *(f"w{step} {what}" for step in (1, 2) for what in STEP), "w2 end"] == LOG


def test_a_training_s_end_ends_what_has_no_end(tmp_path: Path) -> None:
    trainer(tmp_path, recipe(watch(start_step=3))).train()
    assert ["w3 start", *(f"w3 {what}" for what in STEP), "w4 end"] == LOG


def test_gradients_are_seen_once_a_step_whole_and_before_clipping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two micro-batches: the gradient of the whole batch, and after clipping one of norm 1e-3."""
    kept: dict[str, list[Tensor]] = {"backward": [], "optimizer": []}

    def keep(self: WatchModifier, run: Run, what: str) -> None:
        LOG.append(what)
        if what in kept:
            every = [p.grad.flatten() for p in run.model.parameters() if p.grad is not None]
            kept[what].append(torch.cat(every).clone())

    monkeypatch.setattr(WatchModifier, "_note", keep)
    common = {"train_sampling_strategy": "sequential", "max_grad_norm": 1e-3, "max_steps": 2}
    small = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    trainer(tmp_path / "two", recipe(watch()), **common, **small).train()
    assert ["start", *(["before", "loss", "loss", "backward", "optimizer", "after"] * 2), "end"] == LOG
    accumulated = kept["backward"][0]
    assert all(gradient.norm() > 0.1 for gradient in kept["backward"])
    assert [float(gradient.norm()) for gradient in kept["optimizer"]] == pytest.approx([1e-3] * 2, rel=1e-2)
    trainer(tmp_path / "one", recipe(watch()), **common, per_device_train_batch_size=16).train()
    torch.testing.assert_close(kept["backward"][2], accumulated, rtol=1e-4, atol=1e-6)


def test_evaluation_mixes_no_loss(tmp_path: Path) -> None:
    made = trainer(tmp_path, recipe(watch()), eval_dataset=dataset())
    assert made.session is not None
    made.session.begin(Clock(4, 4), 0, None)
    LOG.clear()
    made.evaluate()
    assert LOG == []


# Calibration.


def test_calibration_comes_right_before_the_start(tmp_path: Path) -> None:
    trainer(tmp_path, recipe(watch(start_step=2, batches=3))).train()
    assert LOG[:3] == ["w2 calibrate 3", "w2 start", "w2 before"]
    assert sum("calibrate" in line for line in LOG) == 1


def test_an_epoch_is_all_that_there_is_to_calibrate_on(tmp_path: Path) -> None:
    trainer(tmp_path, recipe(watch(batches=100))).train()
    assert LOG[0] == "w0 calibrate 4"


def test_a_resumed_run_does_not_calibrate_again(tmp_path: Path) -> None:
    """But it does where the checkpoint was written right before the start."""
    text = recipe(watch(start_step=2, batches=1))
    trainer(tmp_path, text, save_strategy="steps", save_steps=1).train()
    for step, first in ((2, "w2 calibrate 1"), (3, "w3 start")):
        LOG.clear()
        trainer(tmp_path, text).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert LOG[0] == first


def test_without_data_calibration_is_refused() -> None:
    session = Session(load_plan(recipe(watch(batches=2))), classifier())
    with pytest.raises(ModifierError, match="WatchModifier needs 2 batches of training data"):
        session.apply_once()


def test_once_goes_by_start_and_each_calibrates_before_it_begins() -> None:
    """Quantization after all that starts with it: its ranges are those of the final weights."""
    text = recipe(
        watch(tag="late", start_epoch=2, batches=1),
        "  - !QuantizationModifier\n      num_calibration_steps: 2",
        watch(tag="a", batches=2),
        "  - !SetParamModifier\n      params: classifier.bias\n      val: 0.5",
        watch(tag="b"),
    )
    session = Session(load_plan(text), classifier())
    biases = []

    def batches() -> Iterator[dict[str, Tensor]]:
        LOG.append("batches")
        biases.append(float(session.run.model.get_parameter("classifier.bias")[0].detach()))
        for _ in range(9):
            yield {"input_ids": torch.tensor([[2, 5, 6, 3]])}

    session.run.batches = batches
    session.apply_once()
    assert [
        *("batches", "a0 calibrate 2", "a0 start", "b0 start"),
        *("batches",),  # quantization's
        *("batches", "late0 calibrate 1", "late0 start"),
    ] == LOG
    assert biases[0] != 0.5 and biases[1:] == [0.5, 0.5]
    assert session.run.one_shot


# Batches for modifiers.


@pytest.mark.parametrize("strategy", ["random", "group_by_length", "sequential"])
def test_batches_are_the_same_whenever_they_are_asked_for(tmp_path: Path, strategy: str) -> None:
    made = trainer(
        tmp_path, recipe(watch()), train_dataset=dataset(teacher=True), train_sampling_strategy=strategy
    )
    assert made.session is not None and made.session.run.batches is not None
    first = list(made.session.run.batches())
    torch.manual_seed(99)
    made.train()
    second = list(made.session.run.batches())
    assert len(first) == len(second) == 4
    for one, other in zip(first, second, strict=True):
        assert one.keys() == {"input_ids", "attention_mask", "labels"}
        assert all(torch.equal(one[key], other[key]) for key in one)
    rows = sorted(tuple(row[row > 0].tolist()) for batch in first for row in batch["input_ids"])
    assert rows == sorted(tuple(row) for row in dataset()["input_ids"])


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_looking_at_batches_changes_nothing_in_the_training(
    tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, also where they are not looked at to their end; nor does it touch other random states."""
    ends = []

    def look(self: WatchModifier, run: Run) -> None:
        assert run.batches is not None
        states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        batches = run.batches()
        for _ in range(run.step % 5):
            next(batches, None)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]

    for looking in (False, True):
        if looking:
            monkeypatch.setattr(WatchModifier, "before_step", look)
        made = trainer(
            tmp_path / str(looking),
            recipe(watch()),
            model=classifier(dropout=0.3),
            train_sampling_strategy=strategy,
            num_train_epochs=2,
            eval_dataset=dataset(rows=13),
            eval_strategy="epoch",
        )
        made.train()
        ends.append((made.model.state_dict(), made.state.log_history[-2]["eval_loss"]))
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])
    assert ends[0][1] == ends[1][1]


def test_random_collation_of_those_batches_has_a_state_of_its_own(tmp_path: Path) -> None:
    """As masked language modelling draws its masks."""
    made = trainer(tmp_path, recipe(watch()))
    collate = made.data_collator
    made.data_collator = lambda rows: {**collate(rows), "noise": torch.rand(2)}
    assert made.session is not None and made.session.run.batches is not None
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        batches = made.session.run.batches()
        drawn.append([])
        for batch in batches:
            torch.rand(3)  # whoever looks at them draws as he likes
            drawn[-1].append(batch["noise"])
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    assert len({tuple(noise.tolist()) for noise in drawn[0]}) == 4
    assert not torch.equal(torch.get_rng_state(), before)


def test_batches_that_are_left_early_are_not_taken_for_the_training_s(tmp_path: Path) -> None:
    made = trainer(tmp_path, recipe(watch()))
    assert made.session is not None and made.session.run.batches is not None
    state = made.accelerator.gradient_state  # one for the whole process
    before = state.active_dataloader
    batches = made.session.run.batches()
    next(batches)
    assert state.active_dataloader is before


def test_a_generator_for_each_step_that_a_resumed_run_has_too() -> None:
    def draws(**fields: Any) -> list[float]:
        return torch.rand(4, generator=Run(nn.Linear(1, 1), Clock(1, 9), **fields).generator()).tolist()

    assert draws(step=3, seed=5) == draws(step=3, seed=5)
    different = [draws(step=step, seed=seed) for step in range(4) for seed in range(4)]
    assert len({tuple(each) for each in different}) == 16


def test_the_run_is_known_to_modifiers(tmp_path: Path) -> None:
    made = trainer(tmp_path, recipe(watch()), seed=11)
    assert made.session is not None
    run = made.session.run
    assert (run.seed, run.rank, run.world_size, run.one_shot) == (11, 0, 1, False)
    assert run.gradient_scale == 1.0 and run.teacher is None and run.distance is not None


# The teacher.


DISTILS = "  - !DistillationModifier\n      hardness: 1.0\n      temperature: 2.0"


def test_a_task_s_own_distance_gets_outputs_by_name(tmp_path: Path) -> None:
    """Two outputs, kept in the batch under `teacher_` and their names, none of which reaches the model."""
    seen = []

    def distance(
        ours: Mapping[str, Tensor],
        theirs: Mapping[str, Tensor],
        temperature: float,
        batch: Mapping[str, Tensor],
    ) -> Tensor:
        seen.append((set(theirs), temperature))
        return ((ours["logits"] - theirs["logits"] - theirs["other"]) ** 2).mean()

    made = trainer(tmp_path, recipe(DISTILS), distance=distance)
    assert made.session is not None
    made.session.begin(made.clock(), 0, None)
    batch = made.data_collator([made.train_dataset[index] for index in range(4)])
    ours = made.model.eval()(**batch).logits.detach()
    made.model.train()
    given = {**batch, "teacher_logits": ours + 1, "teacher_other": torch.full_like(ours, 2.0)}
    assert float(made.compute_loss(made.model, given).detach()) == pytest.approx(9.0, rel=1e-4)
    assert seen == [({"logits", "other"}, 2.0)]


class Counting(nn.Module):
    """A teacher that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.asked = classifier(), 0

    def forward(self, **batch: Tensor) -> Any:
        self.asked += 1
        assert "labels" not in batch
        return self.inner(**batch)


@pytest.mark.parametrize(
    ("kept", "model_wanted", "asked"),
    [(False, False, 2), (True, False, 0), (True, True, 2), (False, True, 2)],
)
def test_a_teacher_runs_on_batches_that_do_not_carry_its_outputs_or_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, model_wanted: bool, asked: int
) -> None:
    """And only while something that distils is at work: here from step 2 of 4 on."""
    monkeypatch.setattr(MODIFIERS["DistillationModifier"], "needs_teacher_model", model_wanted)
    teacher = Counting()
    made = trainer(
        tmp_path,
        recipe(DISTILS + "\n      start_step: 2"),
        teacher=teacher,
        train_dataset=dataset(teacher=kept),
    )
    assert made.session is not None
    assert made.session.needs_teacher and made.session.needs_teacher_model == model_wanted
    made.train()
    assert teacher.asked == asked
    assert made.session.run.teacher is teacher and not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_without_a_teacher_the_loss_is_the_task_s(tmp_path: Path) -> None:
    ends = []
    for number, text in enumerate((recipe(DISTILS), recipe(watch()))):
        made = trainer(tmp_path / str(number), text)
        made.train()
        ends.append(made.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


# Questions to all modifiers.


def test_a_conflict_that_one_of_two_knows_is_refused_in_either_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def conflicts_with(self: WatchModifier, other: Modifier) -> str | None:
        return f"{self.name} cannot stand {other.name}." if self.overlaps(other) else None

    monkeypatch.setattr(WatchModifier, "conflicts_with", conflicts_with)
    freezing = "  - !TrainableParamsModifier\n      params: classifier.bias\n      trainable: false"
    for modifiers, line in (((watch(), freezing), 2), ((freezing, watch()), 5)):
        with pytest.raises(RecipeError, match=rf"line {line}.*WatchModifier cannot stand TrainableParams"):
            Session(load_plan(recipe(*modifiers)), classifier())
    Session(load_plan(recipe(watch(end_epoch=1), freezing + "\n      start_epoch: 1")), classifier())


@pytest.mark.parametrize("final", [0, 2, float("inf")])
def test_the_best_model_is_one_that_the_recipe_is_done_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, final: float
) -> None:
    """Each evaluation is worse than the one before; the first that counts is the best."""
    monkeypatch.setattr(WatchModifier, "final_from", lambda self, clock: final)
    scores = iter([9.0, 6.0, 5.0, 4.0])
    made = trainer(
        tmp_path,
        recipe(watch()),
        eval_dataset=dataset(),
        compute_metrics=lambda _: {"score": next(scores)},
        metric_for_best_model="score",
        greater_is_better=True,
        load_best_model_at_end=True,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=1,
        save_steps=1,
    )
    made.train()
    best = {0: 1, 2: 3, float("inf"): 4}[final]
    assert made.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")


def test_models_of_earlier_recipes_are_restored_but_for_what_a_new_one_supersedes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sparseml.session.models import restore, starting_point

    def restore_one(self: WatchModifier, run: Run, state: Mapping[str, Tensor]) -> None:
        if state:
            LOG.append(f"{self.tag} restored {int(state['kept'])}")

    monkeypatch.setattr(WatchModifier, "restores_modules", True)
    monkeypatch.setattr(WatchModifier, "restore", restore_one)
    monkeypatch.setattr(
        WatchModifier, "state", lambda self, run: {"kept": torch.tensor(ord(self.tag[0]))}, raising=True
    )
    monkeypatch.setattr(
        WatchModifier,
        "supersedes",
        lambda self, earlier: f"was {earlier.tag} before." if earlier.tag == self.tag else None,
    )
    made = trainer(tmp_path, recipe(watch(tag="a"), watch(tag="b")))
    made.save_model()
    restore(made.model, tmp_path)
    assert LOG == ["a restored 97", "b restored 98"]
    for tag, restored in (("b", "a restored 97"), ("a", "b restored 98")):
        LOG.clear()
        capsys.readouterr()
        base = starting_point(made.model, tmp_path, load_plan(recipe(watch(tag=tag))))
        assert [restored] == LOG
        assert base is not None and len(base.state) == 1
        assert f"{tmp_path} was {tag} before." in " ".join(capsys.readouterr().err.split())
