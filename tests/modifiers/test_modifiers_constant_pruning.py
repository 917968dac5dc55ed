"""Zeros that stay exactly zero, and a norm and moments that they never enter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparseml.modifiers import Clock, ModifierError, Run
from sparseml.modifiers.constant_pruning import ConstantPruningModifier

ROWS, COLUMNS = 12, 10
CLOCK = Clock(steps_per_epoch=5, total_steps=20)

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.3),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
    "SGD, Nesterov": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def model(share: float = 0.7) -> nn.Sequential:
    """Two Linear layers, of whose weights a share is zero."""
    torch.manual_seed(0)
    result = nn.Sequential(nn.Linear(COLUMNS, ROWS), nn.Tanh(), nn.Linear(ROWS, 3))
    with torch.no_grad():
        for layer in (result[0], result[2]):
            layer.weight[torch.rand_like(layer.weight) < share] = 0.0
    return result


def zeros_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() == 0 for name, p in module.named_parameters() if name.endswith("weight")}


def start(module: nn.Module, **fields: Any) -> tuple[ConstantPruningModifier, Run]:
    modifier = ConstantPruningModifier(params=fields.pop("params", "__ALL_PRUNABLE__"), **fields)
    run = Run(module, CLOCK)
    modifier.on_start(run)
    return modifier, run


def loss_of(module: nn.Module, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(8, COLUMNS, generator=generator), torch.randint(0, 3, (8,), generator=generator)
    return nn.functional.cross_entropy(module(x), y)


@every_optimizer
def test_a_zero_is_exactly_zero_after_every_step(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    module = model()
    optimizing, zeros = optimizer(module.parameters()), zeros_of(module)
    before = {name: module.get_parameter(name).detach().clone() for name in zeros}
    modifier, run = start(module)
    for seed in range(10):
        optimizing.zero_grad()
        loss_of(module, seed % 2).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizing.step()
        modifier.after_step(run)
        for name, zero in zeros.items():
            assert torch.equal(module.get_parameter(name) == 0, zero)
    for name, zero in zeros.items():
        assert (module.get_parameter(name) != before[name])[~zero].any()


@every_optimizer
def test_the_optimizers_momenta_of_pruned_weights_stay_zero(
    optimizer: Callable[..., torch.optim.Optimizer],
) -> None:
    module = model()
    optimizing, zeros = optimizer(module.parameters()), zeros_of(module)
    modifier, run = start(module)
    for seed in range(5):
        optimizing.zero_grad()
        loss_of(module, seed).backward()
        optimizing.step()
        modifier.after_step(run)
    for name, zero in zeros.items():
        state = optimizing.state[module.get_parameter(name)]
        moments = {key: value for key, value in state.items() if value.shape == zero.shape}
        assert moments
        for moment in moments.values():
            assert (moment[zero] == 0).all() and (moment[~zero] != 0).any()


def test_the_norm_that_is_clipped_is_that_of_the_kept_weights() -> None:
    module, free = model(), model()
    zeros = zeros_of(module)
    start(module)
    for each in (module, free):
        loss_of(each, 0).backward()
    kept = torch.cat(
        [
            parameter.grad[~zeros[name]] if name in zeros else parameter.grad.flatten()
            for name, parameter in free.named_parameters()
        ]
    )
    got = nn.utils.clip_grad_norm_(module.parameters(), 1e9)
    torch.testing.assert_close(got, kept.norm())
    assert got < nn.utils.clip_grad_norm_(free.parameters(), 1e9)


def test_gradients_that_accumulate_are_masked_too() -> None:
    module = model()
    zeros = zeros_of(module)
    start(module)
    for seed in range(3):
        loss_of(module, seed).backward()
    for name, zero in zeros.items():
        assert (module.get_parameter(name).grad[zero] == 0).all()


@pytest.mark.parametrize("poison", [float("inf"), -float("inf"), float("nan")])
def test_an_overflowing_step_leaves_zeros(poison: float) -> None:
    module = model()
    optimizing, zeros = torch.optim.AdamW(module.parameters(), lr=0.1), zeros_of(module)
    modifier, run = start(module)
    (loss_of(module, 0) * poison).backward()
    for name, zero in zeros.items():
        gradient = module.get_parameter(name).grad
        assert (gradient[zero] == 0).all() and not gradient[~zero].isfinite().all()
    optimizing.step()
    modifier.after_step(run)
    for name, zero in zeros.items():
        assert (module.get_parameter(name)[zero] == 0).all()


def test_after_its_end_weights_are_free() -> None:
    module = model()
    optimizing, zeros = torch.optim.SGD(module.parameters(), lr=0.1), zeros_of(module)
    modifier, run = start(module)
    modifier.on_end(run)
    loss_of(module, 0).backward()
    optimizing.step()
    modifier.after_step(run)
    assert any((module.get_parameter(name)[zero] != 0).any() for name, zero in zeros.items())


def test_only_what_was_selected_is_held() -> None:
    module = model()
    start(module, params=["0.weight"])
    loss_of(module, 0).backward()
    first, last = module[0].weight, module[2].weight
    assert (first.grad[first == 0] == 0).all() and (last.grad[last == 0] != 0).any()


def test_weights_that_are_frozen_meanwhile_are_held_once_they_learn() -> None:
    module = model()
    module[0].weight.requires_grad_(False)
    zeros = zeros_of(module)
    start(module)
    for learning in (True, False, True):
        module[0].weight.requires_grad_(learning)
        module.zero_grad()
        loss_of(module, 0).backward()
    assert (module[0].weight.grad[zeros["0.weight"]] == 0).all()
    assert (module[0].weight.grad[~zeros["0.weight"]] != 0).any()


def test_freezing_and_holding_do_not_change_who_learns() -> None:
    module = model()
    module[0].weight.requires_grad_(False)
    start(module)
    assert [parameter.requires_grad for parameter in module.parameters()] == [False, True, True, True]


# A dense start.


@settings(deadline=None)
@given(st.integers(0, 100))
def test_a_start_below_a_tenth_of_zeros_is_refused(zeros: int) -> None:
    module = nn.Sequential(nn.Linear(10, 10, bias=False))
    with torch.no_grad():
        module[0].weight.fill_(1.0).view(-1)[:zeros] = 0.0
    if zeros >= 10:
        start(module)
        return
    with pytest.raises(ModifierError, match=rf"100 weights.*only {zeros}\.0%.*--allow_dense_start"):
        start(module)


def test_a_refusal_is_not_forgotten() -> None:
    module = model(share=0)
    modifier = ConstantPruningModifier(params="__ALL_PRUNABLE__")
    for _ in range(2):
        with pytest.raises(ModifierError, match="--allow_dense_start"):
            modifier.on_start(Run(module, CLOCK))


def test_a_dense_start_may_be_allowed() -> None:
    module = model(share=0)
    ConstantPruningModifier(params="__ALL_PRUNABLE__").on_start(Run(module, CLOCK, allow_dense_start=True))
    loss_of(module, 0).backward()


# Masks in a checkpoint.


def test_a_resumed_run_holds_the_mask_of_the_run_and_not_the_zeros_of_the_moment() -> None:
    module = model(share=0.3)
    zeros = zeros_of(module)
    modifier, run = start(module)
    state = modifier.state(run)
    kept, pruned = zeros["0.weight"].logical_not().nonzero()[1], zeros["0.weight"].nonzero()[0]
    with torch.no_grad():
        module[0].weight[tuple(kept)] = 0.0  # a kept weight that training brought to zero is not pruned
        module[0].weight[tuple(pruned)] = 1.0  # a pruned weight is, whatever the file holds

    resumed = ConstantPruningModifier(params="__ALL_PRUNABLE__")
    resumed.load_state(state, Run(module, CLOCK))
    resumed.on_start(Run(module, CLOCK))
    loss_of(module, 0).backward()
    assert module[0].weight[tuple(pruned)] == 0.0
    for name, zero in zeros.items():
        assert torch.equal(module.get_parameter(name).grad == 0, zero)
    assert {key: value.tolist() for key, value in resumed.state(run).items()} == {
        key: value.tolist() for key, value in state.items()
    }


def test_masks_of_another_model_are_refused() -> None:
    modifier, run = start(model())
    wider = nn.Sequential(nn.Linear(COLUMNS, ROWS + 1), nn.Tanh(), nn.Linear(ROWS + 1, 3))
    for other in (wider, nn.Sequential(nn.Linear(COLUMNS, ROWS))):
        resumed = ConstantPruningModifier(params="__ALL_PRUNABLE__")
        with pytest.raises(ModifierError, match="mask"):
            resumed.load_state(modifier.state(run), Run(other, CLOCK))
            resumed.on_start(Run(other, CLOCK))
