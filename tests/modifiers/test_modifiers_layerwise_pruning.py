"""Layer-wise pruning on tiny encoders of every architecture."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sparseml.modifiers import Clock, ModifierError, build
from sparseml.modifiers.base import Run
from sparseml.modifiers.layerwise_pruning import LayerwisePruningModifier
from sparseml.modifiers.mask_shapes import Group, choose_masks
from sparseml.modifiers.second_order import output_error
from sparseml.modifiers.statistics import input_groups, input_products
from sparseml.recipe import ModifierSpec, Plan
from support.encoders import ARCHITECTURES, batch, dense

DENSE = ["re:bert.encoder.*dense.weight"]


def batches() -> Iterator[dict[str, Any]]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = [batch(8, 12) for _ in range(4)]
    return iter(made)


def modifier_of(**fields: Any) -> LayerwisePruningModifier:
    fields = {
        "params": DENSE,
        "final_sparsity": 0.75,
        "num_calibration_steps": 4,
    } | fields
    (modifier,) = build(Plan("the recipe", (ModifierSpec("LayerwisePruningModifier", fields, 1, {}),)))
    assert isinstance(modifier, LayerwisePruningModifier)
    return modifier


def pruned(model: Any, **fields: Any) -> LayerwisePruningModifier:
    modifier = modifier_of(**fields)
    run = Run(model, Clock(4, 8), batches=batches)
    modifier.structure(run)
    modifier.calibrate(run, batches())
    modifier.on_start(run)
    return modifier


def linear(model: Any, names: str = "") -> dict[str, Any]:
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and names in name
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_layer_is_nearer_to_dense_than_by_magnitude(architecture: str) -> None:
    model = dense(architecture)
    before = copy.deepcopy(model)
    state = torch.get_rng_state()
    modifier = pruned(model, params=["__ALL_PRUNABLE__"], sequential=False)
    assert torch.equal(torch.get_rng_state(), state)
    # Not sequential: the inputs of every layer are those of the dense model.
    products = input_products(before, linear(before), batches())
    for name, layer in linear(before).items():
        weight, new = layer.weight.detach(), model.get_parameter(name).detach()
        mask = choose_masks({name: weight.abs()}, [Group((name,), 0.75)], modifier.shape)[name]
        assert int((new == 0).sum()) == int(mask.sum()), name
        plain = output_error(weight.masked_fill(mask, 0.0) - weight, products[name])
        assert output_error(new - weight, products[name]) <= plain * (1 + 1e-6), name


def test_padding_does_not_count_and_the_products_are_of_the_inputs() -> None:
    model = dense()
    name = "bert.encoder.layer.0.attention.self.query.weight"
    expected = torch.zeros(16, 16, dtype=torch.float64)
    with torch.no_grad():
        for each in batches():
            for row, mask in zip(
                model.bert.embeddings(input_ids=each["input_ids"]), each["attention_mask"], strict=True
            ):
                for token, attended in zip(row, mask, strict=True):
                    expected += torch.outer(token, token).double() * float(attended)
    found = input_products(model, {name: linear(model)[name]}, batches(), 1)[name]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


def test_layers_with_one_input_share_a_hessian_and_come_in_order() -> None:
    model = dense()
    groups, calls = input_groups(model, linear(model, "layer"), next(batches()))
    shown = [
        [name.removeprefix("bert.encoder.layer.").removesuffix(".weight") for name in group]
        for group in groups
    ]
    assert shown[:4] == [
        ["0.attention.self.query", "0.attention.self.key", "0.attention.self.value"],
        ["0.attention.output.dense"],
        ["0.intermediate.dense"],
        ["0.output.dense"],
    ]
    assert len(groups) == 8 and set(calls.values()) == {1}
    repeated = input_groups(dense("albert"), linear(dense("albert"), "albert_layers"), next(batches()))[1]
    assert set(repeated.values()) <= {0, 2}


def test_a_layer_sees_the_outputs_of_those_pruned_before_it() -> None:
    """Each layer's weights are those that its own inputs, in the pruned model, give."""
    model = dense()
    before = copy.deepcopy(model)
    modifier = pruned(model, params=DENSE)
    name = "bert.encoder.layer.1.output.dense.weight"
    partly = copy.deepcopy(model)
    layer = linear(partly)[name]
    hessian = input_products(partly, {name: layer}, batches())[name]
    with torch.no_grad():
        layer.weight.copy_(before.get_parameter(name))
    modifier._prune_layer(layer, hessian, 0.75)
    torch.testing.assert_close(layer.weight, model.get_parameter(name))
    other = copy.deepcopy(before)
    pruned(other, params=DENSE, sequential=False)
    assert not torch.equal(other.get_parameter(name), model.get_parameter(name))


@pytest.mark.parametrize("sequential", [True, False])
def test_the_models_outputs_change_less_than_by_magnitude(sequential: bool) -> None:
    model = dense()
    before, magnitude = copy.deepcopy(model), copy.deepcopy(model)
    modifier = pruned(
        model,
        params=DENSE,
        sequential=sequential,
    )
    with torch.no_grad():
        for name in modifier.parameters(Run(magnitude, Clock(1, 0))):
            weight = magnitude.get_parameter(name)
            mask = choose_masks({name: weight.abs()}, [Group((name,), 0.75)], modifier.shape)[name]
            weight.masked_fill_(mask, 0.0)

    def distance(other: Any) -> float:
        with torch.no_grad():
            return sum(
                float((other(**each).logits - before(**each).logits).square().sum()) for each in batches()
            )

    assert distance(model) < 0.7 * distance(magnitude)


@pytest.mark.parametrize("mask_type", ["unstructured", "block4", [4, 4]], ids=str)
def test_one_target_for_all_is_met_exactly(mask_type: str | list[int]) -> None:
    model = dense()
    modifier = pruned(model, params=DENSE, global_sparsity=True, mask_type=mask_type)
    weights = list(modifier.parameters(Run(model, Clock(1, 0))).values())
    side = (
        1
        if mask_type == "unstructured"
        else weights[0].numel() // modifier.shape.unit_scores(weights[0]).numel()
    )
    total = sum(weight.numel() for weight in weights)
    zeros = [weight.numel() - int(weight.count_nonzero()) for weight in weights]
    assert sum(zeros) == side * round(0.75 * total / side)
    assert len({round(zero / weight.numel(), 6) for zero, weight in zip(zeros, weights, strict=True)}) > 1


def test_it_holds_its_masks_while_training() -> None:
    model = dense()
    modifier = pruned(model, params=DENSE)
    weight = model.bert.encoder.layer[0].output.dense.weight
    zeros, kept = (weight == 0).clone(), weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()(**batch(4, 6), labels=torch.zeros(4, dtype=torch.long)).loss.backward()
    optimizer.step()
    modifier.after_step(Run(model, Clock(1, 0)))
    assert torch.equal(weight == 0, zeros) and not torch.equal(weight, kept)


def test_what_is_no_linear_layer_is_refused() -> None:
    with pytest.raises(ModifierError, match=r"word_embeddings.weight belongs to Embedding"):
        pruned(dense(), params=["bert.embeddings.word_embeddings.weight"])
    with pytest.raises(ModifierError, match="not one batch"):
        modifier_of().calibrate(Run(dense(), Clock(1, 0)), [])
