"""Weight decay, frozen parameters and set ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sparseml.modifiers import Clock, Modifier, ModifierError, Run
from sparseml.modifiers.parameters import SetParamModifier, TrainableParamsModifier
from sparseml.modifiers.weight_decay import SetWeightDecayModifier

CLOCK = Clock(steps_per_epoch=2, total_steps=6)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


def started(modifier: Modifier, module: nn.Module, **fields: Any) -> Run:
    run = Run(module, CLOCK, **fields)
    modifier.on_start(run)
    return run


# Weight decay.


def optimizer_of(module: nn.Module) -> tuple[torch.optim.Optimizer, frozenset[int]]:
    """As the Trainer groups them: what decays, and biases and norms, which do not."""
    decayed = [module[0].weight, module[2].weight]
    others = [p for p in module.parameters() if all(p is not each for each in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups), frozenset(id(p) for p in decayed)


@pytest.mark.parametrize(
    ("param_groups", "expected"), [(None, [0.3, 0.0]), ([1], [0.01, 0.3]), ([0, 1], [0.3, 0.3])]
)
def test_decay_is_set_where_it_is_meant_or_where_it_is_told(
    param_groups: list[int] | None, expected: list[float]
) -> None:
    module = model()
    optimizer, decayed = optimizer_of(module)
    modifier = SetWeightDecayModifier(weight_decay=0.3, param_groups=param_groups)
    started(modifier, module, optimizer=optimizer, decayed=decayed)
    assert [group["weight_decay"] for group in optimizer.param_groups] == expected


@pytest.mark.parametrize("beyond", [2, -1])
def test_a_group_that_the_optimizer_has_not_is_refused(beyond: int) -> None:
    module = model()
    optimizer, decayed = optimizer_of(module)
    modifier = SetWeightDecayModifier(weight_decay=0.3, param_groups=[0, beyond])
    with pytest.raises(ModifierError, match=rf"group {beyond}, but the optimizer has 2 groups \(0 to 1\)"):
        started(modifier, module, optimizer=optimizer, decayed=decayed)
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


# Frozen parameters.


def test_frozen_parameters_do_not_move_and_learn_again_afterwards() -> None:
    module = model()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.1)
    modifier = TrainableParamsModifier(params=["0.weight", "0.bias"], trainable=False)
    module[2].bias.requires_grad_(False)  # somebody else's, to be left alone

    def step() -> list[bool]:
        before = [p.detach().clone() for p in module.parameters()]
        module(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return [not torch.equal(p, old) for p, old in zip(module.parameters(), before, strict=True)]

    step()
    module(torch.randn(5, 4)).sum().backward()  # gradients that lie about must not be applied
    run = started(modifier, module)
    assert step() == [False, False, True, True, True, False]
    modifier.on_end(run)
    assert step() == [True, True, True, True, True, False]


def test_parameters_may_be_let_learn() -> None:
    module = model().requires_grad_(False)
    modifier = TrainableParamsModifier(params=["2"], trainable=True)
    run = started(modifier, module)
    assert [name for name, p in module.named_parameters() if p.requires_grad] == ["2.weight"]
    modifier.on_end(run)
    assert not any(p.requires_grad for p in module.parameters())


# Set parameters.


@pytest.mark.parametrize(("value", "expected"), [(0.5, [0.5, 0.5]), ([1, -2.0], [1, -2])])
def test_parameters_are_set_once(value: Any, expected: list[float]) -> None:
    module = model()
    modifier = SetParamModifier(params=["2.bias"], val=value)
    run = started(modifier, module)
    assert module[2].bias.tolist() == expected and module[2].bias.requires_grad
    with torch.no_grad():
        module[2].bias.zero_()
    resumed = SetParamModifier(params=["2.bias"], val=value)
    resumed.load_state(modifier.state(run), run)
    for each in (modifier, resumed):
        each.on_start(run)
    assert module[2].bias.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2, 3], r"shape \[3\], but 2\.bias has \[2\]"),
        ("much", "not a number"),
        ([[1], [2, 3]], "not a number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(value: Any, said: str) -> None:
    module = model()
    before = module[2].bias.tolist()
    with pytest.raises(ModifierError, match=said):
        started(SetParamModifier(params=["2.bias"], val=value), module)
    assert module[2].bias.tolist() == before


@pytest.mark.parametrize("kind", [TrainableParamsModifier, SetParamModifier])
def test_a_selector_may_match_nothing_where_that_is_allowed(kind: type[Modifier]) -> None:
    fields = {"trainable": False} if kind is TrainableParamsModifier else {"val": 0}
    started(kind(params=["no.such"], params_strict=False, **fields), model())
    with pytest.raises(ModifierError, match=r"no\.such"):
        started(kind(params=["no.such"], **fields), model())


# Spans.


def test_a_span_holds_its_first_step_and_not_its_last() -> None:
    modifier = TrainableParamsModifier(params=["0"], trainable=False, start_epoch=1, end_epoch=2.5)
    assert [step for step in range(8) if modifier.active(step, CLOCK)] == [2, 3, 4]
    whole = TrainableParamsModifier(params=["0"], trainable=False)
    assert all(whole.active(step, CLOCK) for step in range(8))


@pytest.mark.parametrize(
    "fields",
    [
        {"start_epoch": 2, "end_epoch": 1},
        {"start_step": 2, "end_step": 1},
        {"start_step": 2, "start_epoch": 1},
        {"end_step": 2, "end_epoch": 1},
        {"start_step": -2},
        {"start_epoch": float("nan")},
        {"end_epoch": float("inf")},
        {"start_epoch": -2},
    ],
)
def test_a_span_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"start|end"):
        TrainableParamsModifier(params=["0"], trainable=False, **fields)
