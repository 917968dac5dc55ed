"""OBS pruning on tiny encoders: against the functions that it is made of, and what it leaves untouched."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sparseml.modifiers import Clock, ModifierError, build
from sparseml.modifiers.base import Run
from sparseml.modifiers.mask_shapes import Group, choose_masks, parse_mask_type
from sparseml.modifiers.obs_pruning import OBSPruningModifier
from sparseml.modifiers.second_order import damped_inverse, obs_saliency, obs_update
from sparseml.recipe import ModifierSpec, Plan, RecipeError
from support.encoders import dense, labelled

PARAMS = ["re:bert.encoder.*.dense.weight"]


def batches() -> Iterator[dict[str, Any]]:
    return (labelled(rows=8, seed=number) for number in range(6))


def modifier_of(**fields: Any) -> OBSPruningModifier:
    plan = Plan(
        "the recipe",
        (
            ModifierSpec(
                "OBSPruningModifier",
                {
                    "params": PARAMS,
                    "init_sparsity": 0.3,
                    "final_sparsity": 0.8,
                    "start_epoch": 0,
                    "end_epoch": 1,
                    "update_frequency": 0.5,
                    **fields,
                },
                1,
                {},
            ),
        ),
    )
    (modifier,) = build(plan)
    assert isinstance(modifier, OBSPruningModifier)
    return modifier


def run_of(model: Any, **settings: Any) -> Run:
    return Run(model, Clock(4, 8), batches=batches, one_shot=True, **settings)


def loss_of(model: Any) -> float:
    with torch.no_grad():
        return float(sum(model(**batch).loss for batch in batches()))


def test_it_does_what_its_functions_say() -> None:
    """One parameter in one Fisher block: gradients, saliency, mask and update from their formulas."""
    model = dense()
    name = "bert.encoder.layer.1.attention.output.dense.weight"
    weight = model.get_parameter(name)
    before = weight.detach().clone()
    products = torch.zeros(256, 256)
    for batch in batches():
        (gradient,) = torch.autograd.grad(model(**batch).loss, [weight])
        products += torch.outer(gradient.flatten(), gradient.flatten())
    inverse = damped_inverse(products.unsqueeze(0), 1e-4, 6).float()
    saliency = obs_saliency(before.view(1, 256), inverse)
    pruned = choose_masks({"": saliency.view(16, 16)}, [Group(("",), 0.6)], parse_mask_type("unstructured"))[
        ""
    ]
    expected = before + obs_update(before.view(1, 256), inverse, pruned.view(1, 256)).view(16, 16)

    modifier_of(params=[name], final_sparsity=0.6, fisher_block_size=256, damp=1e-4).on_start(run_of(model))
    torch.testing.assert_close(weight.detach(), expected.masked_fill(pruned, 0.0), rtol=1e-3, atol=1e-4)
    assert torch.equal(weight == 0, pruned)


@pytest.mark.parametrize("mask_type", ["unstructured", "block4", [2, 4], [1, -1], "2:4"], ids=str)
@pytest.mark.parametrize("fisher_block_size", [1, 10, 50])
def test_every_shape_and_block_size_is_counted_exactly(
    mask_type: str | list[int], fisher_block_size: int
) -> None:
    model = dense()
    sparsity = 0.5 if mask_type == "2:4" else 0.6
    modifier = modifier_of(mask_type=mask_type, final_sparsity=sparsity, fisher_block_size=fisher_block_size)
    run = run_of(model)
    modifier.structure(run)
    modifier.on_start(run)
    shape, weights = modifier.shape, list(modifier.parameters(run).values())
    masks = [weight == 0 for weight in weights]
    units = [mask if shape.of else shape.unit_scores(mask) for mask in masks]
    assert sum(float(unit.sum()) for unit in units) == round(sparsity * sum(unit.numel() for unit in units))
    for mask, weight in zip(masks, weights, strict=True):
        if shape.of:
            assert (mask.view(-1, 4).sum(1) == 2).all()
        else:
            assert torch.equal(shape.expand(shape.unit_scores(mask) == 1, weight.shape), mask)


def test_more_estimates_and_the_update_keep_the_loss_lower_than_magnitude() -> None:
    """On a model that was trained on its batches, so that there is something to lose."""
    model = dense()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(20):
        for batch in batches():
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
    losses = {}
    for label, fields in {
        "one": {"num_recomputations": 1},
        "many": {"num_recomputations": 8},
    }.items():
        pruned = copy.deepcopy(model)
        sampling = {"batch_size": 1}
        modifier_of(final_sparsity=0.7, damp=1e-5, grad_sampler_kwargs=sampling, **fields).on_start(
            run_of(pruned)
        )
        losses[label] = loss_of(pruned)
    by_magnitude = copy.deepcopy(model)
    weights = {
        name: by_magnitude.get_parameter(name) for name in modifier_of().parameters(run_of(by_magnitude))
    }
    masks = choose_masks(
        {name: weight.detach().abs() for name, weight in weights.items()},
        [Group(tuple(weights), 0.7)],
        parse_mask_type("unstructured"),
    )
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].masked_fill_(mask, 0.0)
    losses["magnitude"] = loss_of(by_magnitude)
    assert losses["many"] < losses["one"] < losses["magnitude"], losses


def test_gradients_modes_and_the_random_state_are_left_alone() -> None:
    model = dense().train()
    model.bert.embeddings.eval()
    frozen = model.bert.encoder.layer[0].output.dense.weight.requires_grad_(False)
    model(**labelled()).loss.backward()
    before = {name: copy.deepcopy(parameter.grad) for name, parameter in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    modifier_of().on_start(run_of(model))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes and not frozen.requires_grad
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (before[name] is None)
        assert parameter.grad is None or torch.equal(parameter.grad, before[name])


def test_what_is_pruned_stays_pruned_and_is_no_part_of_the_estimate() -> None:
    model = dense()
    run = run_of(model)
    modifier = modifier_of()
    modifier.prune_to(run, [Group(tuple(modifier.parameters(run)), 0.5)])
    first = {name: weight == 0 for name, weight in modifier.parameters(run).items()}
    modifier.prune_to(run, [Group(tuple(first), 0.8)])
    for name, weight in modifier.parameters(run).items():
        assert (weight[first[name]] == 0).all()


def test_a_target_that_is_reached_needs_no_gradients() -> None:
    model = dense()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run = run_of(model)
    run.batches = None
    modifier = modifier_of(init_sparsity=0.0)
    modifier.prune_to(run, [Group(tuple(modifier.parameters(run)), 0.0)])
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_it_asks_for_labels_and_data() -> None:
    run = run_of(dense())
    run.batches = None
    with pytest.raises(ModifierError, match="no training data"):
        modifier_of().on_start(run)
    run.batches = lambda: ({k: v for k, v in batch.items() if k != "labels"} for batch in batches())
    with pytest.raises(ModifierError, match="no labels"):
        modifier_of().on_start(run)


def test_too_few_batches_are_said_once_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Six batches of 8 rows; 24 gradients of 2 rows each are there to be had."""
    run = run_of(dense())
    modifier = modifier_of(num_grads=24, num_recomputations=2)
    modifier.on_start(run)
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "num_grads is 24, but an epoch's 48 rows give 6 gradients" in said
    assert "grad_sampler_kwargs: {batch_size: 2}" in said
    modifier_of(num_grads=24, grad_sampler_kwargs={"batch_size": 2}).on_start(run_of(dense()))
    modifier_of(num_grads=6).on_start(run_of(dense()))
    assert capsys.readouterr().err == ""


def test_an_epoch_without_a_batch_is_refused() -> None:
    run = run_of(dense())
    run.batches = lambda: iter(())
    with pytest.raises(ModifierError, match="an epoch has not one"):
        modifier_of().on_start(run)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    model = dense()
    with torch.no_grad():
        model.classifier.bias[0] = torch.inf
    with pytest.raises(ModifierError, match="not finite"):
        modifier_of().on_start(run_of(model))


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_grads", 0), ("damp", 0), ("grad_sampler_kwargs", {"batchsize": 3}), ("num_recomputations", 0)],
)
def test_wrong_values_are_refused(field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=field):
        modifier_of(**{field: value})
