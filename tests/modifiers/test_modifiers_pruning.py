"""Gradual pruning: the schedule, exact sparsity at every update, zeros between them; and movement's scores."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparseml.modifiers import Clock, ModifierError, Run, build
from sparseml.modifiers.learning_rate import LearningRateFunctionModifier
from sparseml.modifiers.magnitude_pruning import (
    GlobalMagnitudePruningModifier,
    GMPruningModifier,
    MagnitudePruningModifier,
)
from sparseml.modifiers.movement_pruning import MovementPruningModifier
from sparseml.modifiers.pruning import GradualPruningModifier
from sparseml.modifiers.schedule import merge
from sparseml.recipe import RecipeError, load_plan
from sparseml.session.session import Session

CLOCK = Clock(steps_per_epoch=4, total_steps=16)
FIELDS: dict[str, Any] = {
    "params": "__ALL_PRUNABLE__",
    "init_sparsity": 0.2,
    "final_sparsity": 0.9,
    "start_epoch": 0.5,
    "end_epoch": 2.5,
    "update_frequency": 0.5,
}
KINDS = [
    MagnitudePruningModifier,
    GlobalMagnitudePruningModifier,
    GMPruningModifier,
    MovementPruningModifier,
]
every_kind = pytest.mark.parametrize("kind", KINDS)


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))


def loss_of(module: nn.Module, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(16, 8, generator=generator), torch.randint(0, 4, (16,), generator=generator)
    return nn.functional.cross_entropy(module(x), y)


class Training:
    """The loop of modifiers/base.py for one modifier, stopped at will."""

    def __init__(self, modifier: GradualPruningModifier, module: nn.Module | None = None) -> None:
        self.modifier, self.module = modifier, module or model()
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.05, weight_decay=0.1)
        self.run = Run(self.module, CLOCK, optimizer=self.optimizer)
        modifier.structure(self.run)

    def steps(self, steps: range) -> None:
        for step in steps:
            self.run.step = step
            if step == max(steps.start, self.modifier.first_step(CLOCK)):
                self.modifier.on_start(self.run)
            at_work = self.modifier.active(step, CLOCK)
            self.optimizer.zero_grad()
            loss_of(self.module, step).backward()
            if at_work:
                self.modifier.after_backward(self.run)
            self.optimizer.step()
            if at_work:
                self.modifier.after_step(self.run)
            if step + 1 == self.modifier.last_step(CLOCK):
                self.modifier.on_end(self.run)

    def zeros(self) -> dict[str, int]:
        return {
            name: p.numel() - int(p.count_nonzero())
            for name, p in self.module.named_parameters()
            if name.endswith("weight")
        }


# The schedule.


def test_sparsity_follows_its_curve_from_update_to_update() -> None:
    modifier = MagnitudePruningModifier(**FIELDS)
    assert [step for step in range(17) if modifier.is_update(step, CLOCK)] == [2, 4, 6, 8, 10]
    got = [modifier.sparsity_at(step, CLOCK, 0.2, 0.9) for step in (2, 4, 6, 8, 10, 11, 15)]
    cubic = [0.9 - 0.7 * (1 - part) ** 3 for part in (0, 0.25, 0.5, 0.75, 1, 1, 1)]
    assert got == pytest.approx(cubic) and got[0] == 0.2 and got[-1] == 0.9


@pytest.mark.parametrize(
    ("form", "middle"),
    [
        ("linear", 0.25),
        ("cubic", 1 - 0.75**3),
        ("inverse_cubic", 1 - 0.75 ** (1 / 3)),
        ("cosine", (1 - math.cos(math.pi / 4)) / 2),
    ],
)
def test_curves_are_those_of_their_names(form: str, middle: float) -> None:
    modifier = MagnitudePruningModifier(**{**FIELDS, "inter_func": form})
    assert modifier.sparsity_at(4, CLOCK, 0.0, 0.8) == pytest.approx(0.8 * middle)
    values = [modifier.sparsity_at(step, CLOCK, 0.1, 0.8) for step in range(2, 11)]
    assert values == sorted(values) and values[0] == 0.1 and values[-1] == 0.8


def test_updates_may_be_at_every_step_or_counted_in_steps() -> None:
    every = MagnitudePruningModifier(**{**FIELDS, "update_frequency": -1})
    assert [step for step in range(17) if every.is_update(step, CLOCK)] == list(range(2, 11))
    fields = {name: value for name, value in FIELDS.items() if name != "update_frequency"}
    third = MagnitudePruningModifier(**fields, update_steps=3)
    assert [step for step in range(17) if third.is_update(step, CLOCK)] == [2, 5, 8, 10]


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 997),
    st.integers(0, 3),
    st.floats(0.01, 1.5) | st.sampled_from([0.1, 0.05, 0.25, 1 / 3]),
    st.integers(1, 4),
)
def test_a_cyclic_rate_restarts_where_the_masks_are_updated(
    steps_per_epoch: int, start: int, interval: float, epochs: int
) -> None:
    """Of equal lengths and starts: the rate is at its highest right after an update (oBERT's second recipe)."""
    clock = Clock(steps_per_epoch, steps_per_epoch * (start + epochs))
    edges = {"start_epoch": start, "end_epoch": start + epochs}
    pruning = MagnitudePruningModifier(**{**FIELDS, **edges, "update_frequency": interval})
    rate = LearningRateFunctionModifier(
        lr_func="cyclic_linear", init_lr=1.0, final_lr=0.5, cycle_epochs=interval, **edges
    )
    first, last = pruning.first_step(clock), pruning.final_step(clock)
    rates = [rate.curve(step, clock) for step in range(first, last)]
    restarts = [first] + [
        first + step
        for step in range(1, len(rates))
        if rates[step] > rates[step - 1] or interval * steps_per_epoch <= 1
    ]
    updates = [step for step in range(first, last) if pruning.is_update(step, clock)]
    if interval * steps_per_epoch >= 2:  # shorter cycles have no room for a curve
        assert restarts == updates


def test_a_cycle_may_be_counted_in_steps() -> None:
    fields = {"lr_func": "cyclic_linear", "init_lr": 1.0, "final_lr": 0.0, "end_epoch": 4}
    by_steps = LearningRateFunctionModifier(**fields, cycle_steps=6)
    by_epochs = LearningRateFunctionModifier(**fields, cycle_epochs=1.5)
    assert [by_steps.curve(step, CLOCK) for step in range(17)] == [
        by_epochs.curve(step, CLOCK) for step in range(17)
    ]
    with pytest.raises(ValueError, match="cycle_steps say the same"):
        LearningRateFunctionModifier(**fields, cycle_steps=6, cycle_epochs=1)
    with pytest.raises(ValueError, match="cycle_steps belongs to lr_func cyclic_linear"):
        LearningRateFunctionModifier(**{**fields, "lr_func": "linear"}, cycle_steps=6)


def test_the_printed_schedule_tells_the_sparsity_of_each_epoch() -> None:
    schedule = merge(
        [MagnitudePruningModifier(**{**FIELDS, "inter_func": "linear", "update_frequency": 0.4})]
    )
    events = [(row.start, event) for row in schedule.rows(epochs=4) for event in row.events]
    assert events == [
        (0.5, "pruning begins"),
        (0.5, "pruned to 90.0% by epoch 2.5"),
        (0.5, "now 20.0%"),
        (1.0, "now 34.0%"),
        (2.0, "now 62.0%"),
    ]
    (modifier,) = schedule.modifiers
    assert modifier.events(CLOCK)[0] == (10, "pruned to 90.0%")


def test_no_checkpoint_before_the_final_sparsity_may_be_the_best() -> None:
    assert MagnitudePruningModifier(**FIELDS).final_from(CLOCK) == 9
    training = Training(MagnitudePruningModifier(**FIELDS))
    training.steps(range(10))  # the checkpoint of step 10
    assert training.zeros() == {"0.weight": 86, "2.weight": 43}


# Zeros.


@every_kind
@pytest.mark.parametrize("mask_type", ["unstructured", "block4", [2, 2], "1:4"], ids=str)
def test_every_update_has_exactly_its_sparsity_and_zeros_stay_until_the_next(
    kind: type[GradualPruningModifier], mask_type: Any
) -> None:
    fields = {**FIELDS, "mask_type": mask_type, "final_sparsity": 0.75}
    training = Training(kind(**fields))
    size = 1 if isinstance(mask_type, str) and mask_type != "block4" else 4
    share = 0.0
    for step in range(CLOCK.total_steps):
        training.steps(range(step, step + 1))
        for done in (step, step + 1):
            if training.modifier.is_update(done, CLOCK):
                share = training.modifier.sparsity_at(done, CLOCK, 0.2, 0.75)
        if step < 2:
            continue
        units = {"0.weight": 96 // size, "2.weight": 48 // size}
        if training.modifier.one_threshold:
            assert sum(training.zeros().values()) == size * round(share * sum(units.values())), step
        else:
            assert training.zeros() == {name: size * round(share * count) for name, count in units.items()}


@every_kind
def test_masks_are_held_to_the_end_unless_they_are_not_to_be(kind: type[GradualPruningModifier]) -> None:
    held, free = Training(kind(**FIELDS)), Training(kind(**FIELDS, leave_enabled=False))
    assert held.modifier.last_step(CLOCK) == math.inf and free.modifier.last_step(CLOCK) == 10
    for training in (held, free):
        training.steps(range(16))
    assert sum(held.zeros().values()) == pytest.approx(0.9 * 144, abs=1)
    assert sum(free.zeros().values()) == 0


@every_kind
def test_an_end_at_the_start_prunes_at_once(kind: type[GradualPruningModifier]) -> None:
    training = Training(kind(**{**FIELDS, "end_epoch": 0.5}))
    training.steps(range(4))
    assert sum(training.zeros().values()) == pytest.approx(0.9 * 144, abs=1)
    assert not [key for key in training.modifier.state(training.run) if key.endswith((".score", ".value"))]
    with pytest.raises(ValueError, match="end_epoch must lie after"):
        kind(**{**FIELDS, "end_epoch": 0.5, "leave_enabled": False})


@pytest.mark.parametrize(
    "kind", [MagnitudePruningModifier, GlobalMagnitudePruningModifier, GMPruningModifier]
)
def test_what_magnitude_pruned_stays_pruned(kind: type[GradualPruningModifier]) -> None:
    training = Training(kind(**FIELDS))
    before = None
    for step in range(CLOCK.total_steps):
        training.steps(range(step, step + 1))
        now = training.module[0].weight == 0
        assert before is None or (before <= now).all()
        before = now


@every_kind
def test_moments_of_what_is_newly_pruned_are_zero(kind: type[GradualPruningModifier]) -> None:
    training = Training(kind(**FIELDS))
    for step in range(12):
        training.steps(range(step, step + 1))
        for name in ("0.weight", "2.weight"):
            parameter = training.module.get_parameter(name)
            for key in ("exp_avg", "exp_avg_sq"):
                moment = training.optimizer.state[parameter][key]
                if step >= 2:
                    assert (moment[parameter == 0] == 0).all() and (moment[parameter != 0] != 0).any()


@every_kind
@pytest.mark.parametrize("stop", range(1, 13))
def test_resumed_at_any_step_it_ends_with_the_same_weights(
    kind: type[GradualPruningModifier], stop: int
) -> None:
    fields = {**FIELDS, "init_sparsity": "__FROM_PARAM__"}

    def start() -> Training:
        module = model()
        with torch.no_grad():
            module[0].weight[:4] = 0.0
        return Training(kind(**fields), module)

    whole, first, second = start(), start(), start()
    whole.steps(range(16))
    first.steps(range(stop))
    second.module.load_state_dict(first.module.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.modifier.load_state({k: v.clone() for k, v in first.modifier.state(first.run).items()}, second.run)
    second.steps(range(stop, 16))
    for name, parameter in whole.module.named_parameters():
        assert torch.equal(parameter, second.module.get_parameter(name)), name


# Targets.


def test_targets_by_parameter_count_by_the_first_that_names_it() -> None:
    plan = load_plan(
        """
modifiers:
  - !MagnitudePruningModifier
    params: []
    init_sparsity: 0
    final_sparsity: {0.75: ["0.weight"], 0.5: ["re:.*weight"]}
    start_epoch: 0
    end_epoch: 2
    update_frequency: 1
"""
    )
    (modifier,) = build(plan)
    assert isinstance(modifier, MagnitudePruningModifier)
    training = Training(modifier)
    assert modifier.entries() == ["0.weight", "re:.*weight"]
    training.steps(range(9))
    assert training.zeros() == {"0.weight": 72, "2.weight": 24}
    assert modifier.events(CLOCK)[0] == (8, "pruned to 75.0% and 50.0%")
    assert build(load_plan(plan.to_yaml()))[0].model_dump() == modifier.model_dump()


def test_global_targets_by_parameter_have_a_threshold_each() -> None:
    fields = {**FIELDS, "params": [], "final_sparsity": {0.5: ["re:.*weight"]}}
    training = Training(GlobalMagnitudePruningModifier(**fields))
    with torch.no_grad():
        training.module[2].weight.abs_().add_(5.0)
    training.steps(range(16))
    assert training.zeros()["0.weight"] == 72 and training.zeros()["2.weight"] == 0


def test_a_start_from_each_parameter_s_own_sparsity() -> None:
    module = model()
    with torch.no_grad():
        module[0].weight.view(-1)[:48] = 0.0
        module[2].weight.view(-1)[:46] = 0.0
    zeros = module[0].weight == 0
    fields = {**FIELDS, "init_sparsity": "__FROM_PARAM__", "start_epoch": 0}
    training = Training(MagnitudePruningModifier(**fields), module)
    training.steps(range(1))
    assert torch.equal(module[0].weight == 0, zeros)
    training.steps(range(1, 16))
    # What was sparser than the target stays so.
    assert training.zeros() == {"0.weight": 86, "2.weight": 46}


def test_global_is_gm_with_one_threshold() -> None:
    made = [
        Training(GlobalMagnitudePruningModifier(**FIELDS)),
        Training(GMPruningModifier(**FIELDS, global_sparsity=True)),
    ]
    for training in made:
        training.steps(range(16))
    assert torch.equal(made[0].module[0].weight, made[1].module[0].weight)
    assert made[0].zeros() != Training(MagnitudePruningModifier(**FIELDS)).zeros()


# One shot.


def one_shot(recipe: str, module: nn.Module) -> None:
    Session(load_plan(recipe), module).apply_once()


RECIPE = """
modifiers:
  - !{}
    params: __ALL_PRUNABLE__
    init_sparsity: 0.05
    final_sparsity: 0.75
    start_epoch: 0
    end_epoch: 2
    update_frequency: 0.5
"""


def test_one_shot_prunes_to_the_final_sparsity_at_once() -> None:
    module, whole = model(), model()
    one_shot(RECIPE.format("GlobalMagnitudePruningModifier"), module)
    every = torch.cat([whole[0].weight.flatten(), whole[2].weight.flatten()]).abs()
    threshold = every.sort().values[round(0.75 * 144) - 1]
    for index in (0, 2):
        expected = torch.where(whole[index].weight.abs() <= threshold, 0.0, whole[index].weight)
        assert torch.equal(module[index].weight, expected)


def test_movement_needs_training() -> None:
    with pytest.raises(ModifierError, match=r"MovementPruningModifier.*--one_shot.*MagnitudePruningModifier"):
        one_shot(RECIPE.format("MovementPruningModifier"), model())


# What is refused.


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"final_sparsity": 1.0}, "less than 1"),
        ({"final_sparsity": 0}, "greater than 0"),
        ({"init_sparsity": -0.1}, "greater than or equal to 0"),
        ({"init_sparsity": "x"}, "__FROM_PARAM__"),
        ({"init_sparsity": 0.95}, "init_sparsity 0.95 lies above final_sparsity 0.9"),
        ({"inter_func": "quartic"}, "inverse_cubic"),
        ({"update_frequency": 0}, "epochs above 0, or -1 for every step"),
        ({"update_frequency": 1, "update_steps": 5}, "either update_frequency"),
        ({"end_epoch": -1}, "end_epoch .* must be given"),
        ({"mask_type": "5:4"}, "no shape of a mask"),
        ({"mask_type": "2:4"}, "makes a sparsity of 0.5, but final_sparsity is 0.9"),
        ({"params": []}, "params must be given"),
        ({"final_sparsity": {0.5: ["a"]}}, "leave params out"),
        ({"params": [], "final_sparsity": {}}, "final_sparsity"),
        ({"params": [], "final_sparsity": {1.5: ["a"]}}, "less than 1"),
    ],
)
def test_a_wrong_field_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MagnitudePruningModifier(**{**FIELDS, **changed})


def test_a_parameter_that_does_not_fit_is_refused_before_training() -> None:
    modifier = MagnitudePruningModifier(**{**FIELDS, "mask_type": [5, 1], "params": ["0.weight"]})
    with pytest.raises(ModifierError, match=r"0\.weight has shape \[12, 8\].*\[5, 1\]"):
        modifier.structure(Run(model(), CLOCK))
    with pytest.raises(ModifierError, match="matches no parameter"):
        MagnitudePruningModifier(**{**FIELDS, "params": ["7.weight"]}).structure(Run(model(), CLOCK))


def two(first: str, second: str) -> str:
    ramp = "init_sparsity: 0, final_sparsity: 0.5, update_frequency: 1"
    return f"modifiers:\n  - !{first.replace('RAMP', ramp)}\n  - !{second.replace('RAMP', ramp)}\n"


CONSTANT = "ConstantPruningModifier {params: __ALL_PRUNABLE__, start_epoch: START}"


@pytest.mark.parametrize(
    ("first", "second", "fine"),
    [
        ("params: __ALL_PRUNABLE__, end_epoch: 2", "params: [a], start_epoch: 1, end_epoch: 3", False),
        ("params: [a], end_epoch: 2", "params: [a.weight], start_epoch: 2, end_epoch: 3", False),
        ("params: [a], end_epoch: 2", "params: ['re:a'], start_epoch: 2, end_epoch: 3", False),
        ("params: [a], end_epoch: 2", "params: [b, 're:c.*'], end_epoch: 3", True),
        (
            "params: [a], end_epoch: 2, leave_enabled: false",
            "params: [a], start_epoch: 2, end_epoch: 3",
            True,
        ),
    ],
)
def test_two_prunings_of_the_same_parameters_at_once_are_refused(first: str, second: str, fine: bool) -> None:
    recipe = two(f"MovementPruningModifier {{RAMP, {first}}}", f"MagnitudePruningModifier {{RAMP, {second}}}")
    if fine:
        merge(build(load_plan(recipe)))
        return
    with pytest.raises(RecipeError, match=r"line 3.*MagnitudePruningModifier and Movement.*in line 2"):
        merge(build(load_plan(recipe)))


@pytest.mark.parametrize("swapped", [False, True])
def test_constant_pruning_may_follow_but_not_stand_beside(swapped: bool) -> None:
    ramp = "MagnitudePruningModifier {RAMP, params: [a], end_epoch: 2, leave_enabled: LEFT}"

    def recipe(start: int, left: str) -> str:
        pair = (CONSTANT.replace("START", str(start)), ramp.replace("LEFT", left))
        return two(*(pair[::-1] if swapped else pair))

    merge(build(load_plan(recipe(2, "false"))))
    for start, left in ((1, "false"), (2, "true")):
        with pytest.raises(RecipeError, match=r"line 3.*both hold masks"):
            merge(build(load_plan(recipe(start, left))))
    constant = CONSTANT.replace("START", "0")
    merge(build(load_plan(two(constant, constant))))


# Movement, held against the paper's own formulation: weights under masks, and scores beside them.


class Masked:
    """Sanh et al. 2020, section 4: W' = W x M; W learns where M is 1; S gathers -(dL/dW') W; M is the top of S."""

    def __init__(self, module: nn.Sequential, rate: float) -> None:
        self.module, self.rate = module, rate
        self.weights = [module[index].weight.detach().clone() for index in (0, 2)]
        self.scores = [torch.zeros_like(weight) for weight in self.weights]
        self.masks = [torch.ones_like(weight) for weight in self.weights]

    def prune(self, share: float, by_magnitude: bool = False) -> None:
        for place, weight in enumerate(self.weights):
            score = (weight.abs() if by_magnitude else self.scores[place]).flatten()
            pruned = score.sort(stable=True).indices[: round(share * score.numel())]
            self.masks[place] = torch.ones_like(score).index_fill(0, pruned, 0.0).reshape(weight.shape)

    def step(self, seed: int, moving: bool) -> None:
        layers = [self.module[0], self.module[2]]
        with torch.no_grad():
            for layer, weight, mask in zip(layers, self.weights, self.masks, strict=True):
                layer.weight.copy_(weight * mask)
        self.module.zero_grad()
        loss_of(self.module, seed).backward()
        with torch.no_grad():
            for place, layer in enumerate(layers):
                if moving:
                    self.scores[place] -= self.weights[place] * layer.weight.grad
                self.weights[place] -= self.rate * layer.weight.grad * self.masks[place]
                layer.bias -= self.rate * layer.bias.grad


@pytest.mark.parametrize("frequency", [-1, 0.5])
def test_movement_is_the_paper_s(frequency: float) -> None:
    modifier = MovementPruningModifier(**{**FIELDS, "update_frequency": frequency, "final_sparsity": 0.6})
    training = Training(modifier)
    training.optimizer = training.run.optimizer = torch.optim.SGD(training.module.parameters(), lr=1.0)
    paper = Masked(model(), 1.0)
    came_back, before = 0, torch.ones_like(paper.masks[0])
    for step in range(CLOCK.total_steps):
        if step == 2:
            paper.prune(0.2, by_magnitude=True)
        paper.step(step, moving=2 <= step < 10)
        training.steps(range(step, step + 1))
        if step >= 2 and modifier.is_update(step + 1, CLOCK):
            paper.prune(modifier.sparsity_at(step + 1, CLOCK, 0.2, 0.6))
        for index, weight, mask in zip((0, 2), paper.weights, paper.masks, strict=True):
            torch.testing.assert_close(training.module[index].weight, weight * mask, rtol=1e-4, atol=1e-6)
        came_back += int((paper.masks[0] > before).sum())
        before = paper.masks[0]
    assert came_back > 0


def test_a_step_that_overflowed_moves_no_score() -> None:
    training = Training(MovementPruningModifier(**FIELDS))
    training.steps(range(5))
    before = {key: value.clone() for key, value in training.modifier.state(training.run).items()}
    loss_of(training.module, 0).backward()
    training.module[0].weight.grad[0, 0] = math.inf
    training.module[2].weight.grad = None
    training.modifier.after_backward(training.run)
    after = training.modifier.state(training.run)
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_the_loss_scale_does_not_weigh_steps() -> None:
    plain, scaled = Training(MovementPruningModifier(**FIELDS)), Training(MovementPruningModifier(**FIELDS))
    for training, scale in ((plain, 1.0), (scaled, 1024.0)):
        training.steps(range(3))
        training.optimizer.zero_grad()
        (loss_of(training.module, 3) * scale).backward()
        training.run.gradient_scale = scale
        training.modifier.after_backward(training.run)
    torch.testing.assert_close(plain.modifier.state(plain.run), scaled.modifier.state(scaled.run))


def test_the_label_shows_the_sparsity() -> None:
    modifier = MagnitudePruningModifier(**{**FIELDS, "start_epoch": 0, "init_sparsity": 0.25})
    assert modifier.shown == "pruning"
    training = Training(modifier)
    training.steps(range(1))
    assert modifier.shown == "pruning 25.0%"
    training.steps(range(1, 16))
    assert modifier.shown == "pruning 89.6%"  # 86 of 96 and 43 of 48
