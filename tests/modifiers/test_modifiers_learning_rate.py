"""Learning rates against PyTorch's own schedulers, and against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LRScheduler,
    MultiStepLR,
    StepLR,
)

from sparseml.modifiers import Clock
from sparseml.modifiers.base import interpolate
from sparseml.modifiers.learning_rate import (
    LearningRateFunctionModifier,
    LearningRateModifier,
    LearningRateSetter,
    SetLearningRateModifier,
)

CLOCK = Clock(steps_per_epoch=10, total_steps=60)
STEPS = range(CLOCK.total_steps)
INIT = 0.02


def rates(modifier: LearningRateSetter, clock: Clock = CLOCK) -> list[float]:
    return [modifier.rate(step, clock) for step in range(clock.total_steps)]


def torch_rates(scheduler: type[LRScheduler], **kwargs: Any) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=INIT)
    schedule = scheduler(optimizer, **kwargs)
    seen = []
    for _ in STEPS:
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def by_class(name: str, **kwargs: Any) -> LearningRateModifier:
    return LearningRateModifier(lr_class=name, lr_kwargs=kwargs, init_lr=INIT)


@pytest.mark.parametrize("epochs", [0.3, 1, 1.7, 2])
def test_step_is_torchs(epochs: float) -> None:
    expected = torch_rates(StepLR, step_size=round(epochs * 10), gamma=0.3)
    assert rates(by_class("StepLR", step_size=epochs, gamma=0.3)) == pytest.approx(expected)


@pytest.mark.parametrize("milestones", [[1, 3], [0.5, 2.2, 4.9], [3, 1], [0, 2, 2]])
def test_multistep_is_torchs(milestones: list[float]) -> None:
    in_steps = [round(10 * epoch) for epoch in milestones]
    mine = rates(by_class("MultiStepLR", milestones=milestones, gamma=0.5))
    assert mine == pytest.approx(torch_rates(MultiStepLR, milestones=in_steps, gamma=0.5))


def test_exponential_is_torchs_stepped_once_an_epoch() -> None:
    per_epoch = torch_rates(ExponentialLR, gamma=0.8)
    assert rates(by_class("ExponentialLR", gamma=0.8)) == pytest.approx(
        [per_epoch[step // 10] for step in STEPS]
    )


@pytest.mark.parametrize("epochs", [0.5, 1, 2.3])
def test_cosine_with_restarts_is_torchs(epochs: float) -> None:
    expected = torch_rates(CosineAnnealingWarmRestarts, T_0=round(epochs * 10), eta_min=0.003)
    mine = rates(by_class("CosineAnnealingWarmRestarts", cycle_epochs=epochs, lr_min=0.003))
    assert mine == pytest.approx(expected)


def test_linear_is_torchs_line() -> None:
    expected = torch_rates(
        torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.1, total_iters=35
    )
    modifier = LearningRateFunctionModifier(lr_func="linear", init_lr=INIT, final_lr=INIT / 10, end_epoch=3.5)
    assert rates(modifier) == pytest.approx(expected)


def test_half_a_cosine_is_torchs() -> None:
    torchs = torch_rates(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=40, eta_min=0.001)
    modifier = LearningRateFunctionModifier(lr_func="cosine", init_lr=INIT, final_lr=0.001, end_epoch=4)
    assert rates(modifier) == pytest.approx(torchs[:41] + [0.001] * 19)


def test_a_cosine_may_rise() -> None:
    modifier = LearningRateFunctionModifier(lr_func="cosine", init_lr=0, final_lr=INIT, end_epoch=6)
    assert rates(modifier) == pytest.approx([INIT * (1 - math.cos(math.pi * s / 60)) / 2 for s in STEPS])


@pytest.mark.parametrize("cycle", [1, 2, 3])
def test_cyclic_lines_restart_and_reach_both_ends(cycle: int) -> None:
    modifier = LearningRateFunctionModifier(
        lr_func="cyclic_linear", init_lr=INIT, final_lr=0, end_epoch=6, cycle_epochs=cycle
    )
    length = 10 * cycle
    assert rates(modifier) == pytest.approx([INIT * (1 - (s % length) / (length - 1)) for s in STEPS])


functions = st.builds(
    LearningRateFunctionModifier,
    lr_func=st.sampled_from(["linear", "cosine"]),
    init_lr=st.floats(0, 1),
    final_lr=st.floats(0, 1),
    start_epoch=st.floats(0, 3) | st.just(-1.0),
    end_epoch=st.floats(3.01, 7),
)
cyclic = st.builds(
    LearningRateFunctionModifier,
    lr_func=st.just("cyclic_linear"),
    init_lr=st.floats(0, 1),
    final_lr=st.floats(0, 1),
    end_epoch=st.floats(3.01, 7),
    cycle_epochs=st.floats(0.01, 4),
)
clocks = st.builds(Clock, steps_per_epoch=st.integers(1, 50), total_steps=st.just(400))


@settings(deadline=None)
@given(functions | cyclic, clocks, st.integers(0, 400))
def test_a_rate_never_leaves_its_two_ends(
    modifier: LearningRateFunctionModifier, clock: Clock, step: int
) -> None:
    low, high = sorted((modifier.init_lr, modifier.final_lr))
    assert max(low - 1e-15, 0) <= modifier.rate(step, clock) <= high + 1e-15


@settings(deadline=None)
@given(functions, clocks)
def test_a_function_begins_and_ends_at_its_ends(modifier: LearningRateFunctionModifier, clock: Clock) -> None:
    first, last = modifier.first_step(clock), modifier.last_step(clock)
    if first < last:
        assert modifier.rate(first, clock) == modifier.init_lr
        assert modifier.rate(last, clock) == pytest.approx(modifier.final_lr)


@settings(deadline=None)
@given(functions | cyclic, clocks, st.integers(0, 500))
def test_after_its_end_the_last_rate_stays(
    modifier: LearningRateFunctionModifier, clock: Clock, beyond: int
) -> None:
    last = modifier.last_step(clock)
    assert modifier.rate(last + beyond, clock) == modifier.rate(last, clock)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("StepLR", {"step_size": 0.7}),
        ("MultiStepLR", {"milestones": [1, 2, 3, 4]}),
        ("ExponentialLR", {"gamma": 0.5}),
        ("CosineAnnealingWarmRestarts", {"cycle_epochs": 1.5}),
    ],
)
def test_torchs_schedules_stop_at_their_end_too(name: str, kwargs: dict[str, Any]) -> None:
    whole = by_class(name, **kwargs)
    ended = LearningRateModifier(lr_class=name, lr_kwargs=kwargs, init_lr=INIT, end_epoch=2.5)
    assert rates(ended) == rates(whole)[:25] + [whole.rate(25, CLOCK)] * 35


@pytest.mark.parametrize("form", ["linear", "cosine", "cyclic_linear"])
def test_steps_say_the_same_as_epochs(form: str) -> None:
    common = {"lr_func": form, "init_lr": INIT, "final_lr": 0.001}
    in_epochs = LearningRateFunctionModifier(**common, start_epoch=0.5, end_epoch=3.3)
    in_steps = LearningRateFunctionModifier(**common, start_step=5, end_step=33)
    assert rates(in_epochs) == rates(in_steps)


@settings(deadline=None)
@given(st.integers(1, 1000), st.floats(0, 20))
def test_an_epoch_begins_at_the_nearest_step(steps_per_epoch: int, epoch: float) -> None:
    clock = Clock(steps_per_epoch, 0)
    assert abs(clock.step(epoch) - epoch * steps_per_epoch) <= 0.5
    assert clock.step(clock.epoch(clock.step(epoch))) == clock.step(epoch)


def test_a_set_rate_is_constant() -> None:
    assert set(rates(SetLearningRateModifier(learning_rate=0.3))) == {0.3}


@settings(deadline=None)
@given(st.sampled_from(["linear", "cosine"]), st.floats(-1, 1), st.floats(-1, 1))
def test_halfway_is_the_mean(form: str, first: float, last: float) -> None:
    assert interpolate(form, 0.5, first, last) == pytest.approx((first + last) / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lr_func": "linear", "init_lr": 1, "final_lr": 0}, "end_epoch"),
        ({"lr_func": "linear", "init_lr": 1, "final_lr": 0, "start_epoch": 2, "end_epoch": 2}, "end_epoch"),
        (
            {"lr_func": "cosine", "init_lr": 1, "final_lr": 0, "end_epoch": 2, "cycle_epochs": 1},
            "cyclic_linear",
        ),
        (
            {
                "lr_func": "linear",
                "init_lr": 1,
                "final_lr": 0,
                "start_step": 1,
                "start_epoch": 1,
                "end_epoch": 2,
            },
            "give one of them",
        ),
    ],
)
def test_a_curve_without_a_span_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LearningRateFunctionModifier(**fields)


@pytest.mark.parametrize(
    ("name", "kwargs", "said"),
    [
        ("StepLR", {"step": 3}, "step_size"),
        ("MultiStepLR", {"gamma": 0.1}, "milestones"),
        ("ExponentialLR", {}, "gamma"),
        ("CosineAnnealingWarmRestarts", {"T_0": 4}, "cycle_epochs"),
    ],
)
def test_lr_kwargs_that_do_not_fit_are_refused_with_those_that_would(
    name: str, kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=f"lr_kwargs of {name}.*{said}"):
        by_class(name, **kwargs)
