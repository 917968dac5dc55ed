"""Layer thinning: what is zero is gone, the model computes the same, trains on, resumes, is saved and loaded."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from test_modifiers_settings import CLOCK, RAMP, batches, plan_of, train
from test_modifiers_structured_pruning import KNOWN, encoder, plan, pruned, zero_units_of
from transformers import AutoModelForSequenceClassification

from sparseml.modifiers import Modifier, ModifierError, Run
from sparseml.modifiers.units import blocks
from sparseml.recipe import RecipeError
from sparseml.session.models import Source, load_model
from sparseml.session.session import Session
from sparseml.session.sources import ModelError
from support.encoders import batch, dense, labelled

ALL = ["__ALL_PRUNABLE__"]
VALUES = ["re:.*value.weight"]
NEURONS = {**RAMP, "params": ALL, "final_sparsity": 0.5, "mask_type": "neuron", "end_epoch": 1}
HEADS = {**NEURONS, "mask_type": "head"}
THINNING = {"start_epoch": 1.0}


def thin(model: Any, **fields: Any) -> None:
    session = Session(plan_of("LayerThinningModifier", fields), model)
    session.apply_once()
    session.finish()


def units(model: Any, kind: Any) -> list[int]:
    return [block.units for block in blocks(model, kind, "the test")]


def kinds_of(architecture: str) -> list[str]:
    return ["neuron"] if architecture == "mpnet" else ["neuron", "head"]


@pytest.mark.parametrize("architecture", KNOWN)
def test_what_is_left_computes_what_the_zeroed_model_computes(architecture: str, tmp_path: Path) -> None:
    model, inputs = encoder(architecture), batch(3, 7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    before = sum(parameter.numel() for parameter in model.parameters())
    kinds = kinds_of(architecture)
    zeroed = 0
    for kind in kinds:
        masks = pruned(model, mask_type=kind)._masks.pruned
        zeroed += sum(int(mask.sum()) for mask in masks.values())
    expected = model(**inputs).logits
    thin(model)
    for kind in kinds:
        assert set(units(model, kind)) == {2 if kind == "head" else 16}
    assert sum(parameter.numel() for parameter in model.parameters()) == before - zeroed
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-4, atol=1e-5)

    model.save_pretrained(tmp_path)
    loaded = load_model(Source("thinned", tmp_path), AutoModelForSequenceClassification)
    assert not loaded.new and not loaded.notes
    assert torch.equal(loaded.model.eval()(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("architecture", KNOWN)
def test_equal_numbers_of_neurons_are_plain_transformers(architecture: str, tmp_path: Path) -> None:
    model = encoder(architecture)
    pruned(model, mask_type="neuron")
    thin(model)
    model.save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    inputs = batch(2, 5)
    assert torch.equal(plain(**inputs).logits, model(**inputs).logits)


def test_what_the_configuration_cannot_say_no_plain_loader_takes_for_something_else(tmp_path: Path) -> None:
    """Layers that differ, and heads that are missing."""
    for number, (kind, threshold) in enumerate((("neuron", True), ("head", False))):
        model = encoder()
        with torch.no_grad():
            model.bert.encoder.layer[0].intermediate.dense.weight *= 3
        pruned(model, mask_type=kind, global_sparsity=threshold)
        thin(model)
        if kind == "neuron":
            assert len(set(units(model, kind))) == 2 and model.config.intermediate_size == 32
        model.save_pretrained(tmp_path / str(number))
        with pytest.raises(RuntimeError):
            AutoModelForSequenceClassification.from_pretrained(tmp_path / str(number))
        loaded = load_model(
            Source("thinned", tmp_path / str(number)), AutoModelForSequenceClassification
        ).model
        assert units(loaded, kind) == units(model, kind)


def test_weights_of_other_shapes_are_still_refused(tmp_path: Path) -> None:
    model = encoder()
    model.bert.encoder.layer[0].intermediate.dense.weight = torch.nn.Parameter(torch.zeros(12, 16))
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lacks 1 weights"):
        load_model(Source("broken", tmp_path), AutoModelForSequenceClassification)


@pytest.mark.parametrize("silent", [True, False])
def test_a_unit_is_gone_when_it_says_nothing_or_nobody_reads_it(silent: bool) -> None:
    model, inputs = encoder(), batch(2, 6)
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():
        if silent:
            layer.attention.self.value.weight[4:8], layer.attention.self.value.bias[4:8] = 0, 0
            layer.intermediate.dense.weight[:3], layer.intermediate.dense.bias[:3] = 0, 0
        else:
            layer.attention.output.dense.weight[:, 4:8] = 0
            layer.output.dense.weight[:, :3] = 0
        layer.attention.self.query.weight[8:12] = 0  # which alone gives a uniform attention
        layer.intermediate.dense.weight[9], layer.intermediate.dense.bias[9] = 0, 1
    expected = model(**inputs).logits
    thin(model)
    assert units(model, "head") == [4, 3] and units(model, "neuron") == [32, 29]
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-4, atol=1e-5)


def test_structure_type_chooses_and_one_head_always_stays() -> None:
    model = encoder()
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.output.dense.weight[:, 5] = 0
    expected = model(**batch(2, 6, padded=False)).logits.shape
    thin(model, structure_type="neuron")
    assert units(model, "head") == [4, 4] and units(model, "neuron") == [31, 31]
    thin(model, structure_type="head")
    assert units(model, "head") == [1, 1] and model(**batch(2, 6)).logits.shape == expected


def test_training_goes_on_as_that_of_the_zeroed_model() -> None:
    """Moments of the optimizer included: the same steps with masks end with the same weights, up to rounding."""
    kept = encoder()
    masked = Session(plan(("StructuredPruningModifier", HEADS), ("StructuredPruningModifier", NEURONS)), kept)
    train(masked, range(6), torch.optim.SGD(kept.parameters(), lr=0.05, momentum=0.9))
    model = encoder()
    session = Session(
        plan(
            ("StructuredPruningModifier", HEADS),
            ("StructuredPruningModifier", NEURONS),
            ("LayerThinningModifier", THINNING),
        ),
        model,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train(session, range(6), optimizer)
    assert units(model, "head") == [2, 2] and units(model, "neuron") == [16, 16]
    thin(kept)
    for name, parameter in kept.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-4, atol=1e-5)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()} == set(map(id, optimizer.state))


RECIPES = {
    "heads and neurons, then int8": [
        ("StructuredPruningModifier", HEADS),
        ("StructuredPruningModifier", NEURONS),
        ("LayerThinningModifier", THINNING),
        ("QuantizationModifier", {"start_epoch": 4 / 3}),
    ],
    "int8 first in the recipe, one scale a channel": [
        ("QuantizationModifier", {"start_epoch": 4 / 3, "scheme": {"weights": {"strategy": "channel", "num_bits": 8}}}),
        ("StructuredPruningModifier", NEURONS),
        ("LayerThinningModifier", THINNING),
    ],
    "removed twice, a layer between, movement after": [
        ("LayerThinningModifier", {"start_epoch": 2 / 3, "update_epochs": [5 / 3]}),
        ("StructuredPruningModifier", {**NEURONS, "end_epoch": 2 / 3}),
        ("StructuredPruningModifier", {**HEADS, "start_epoch": 2 / 3, "end_epoch": 2 / 3}),
        ("LayerPruningModifier", {"layers": [0], "start_epoch": 4 / 3}),
        ("MovementPruningModifier", {**RAMP, "params": VALUES, "start_epoch": 2 / 3, "end_epoch": 5 / 3}),
        ("TrainableParamsModifier", {"params": ["re:.*key.bias"], "trainable": False, "end_epoch": 5 / 3}),
    ],
    "zeros held": [
        ("ConstantPruningModifier", {"params": ALL}),
        ("StructuredPruningModifier", NEURONS),
        ("LayerThinningModifier", THINNING),
    ],
}  # fmt: skip


def start(name: str) -> Session:
    """A recipe on a model that has some zero units before."""
    model = encoder(num_hidden_layers=3)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[::2] = 0
        model.bert.encoder.layer[1].attention.output.dense.weight[:, :4] = 0
    return Session(plan(*RECIPES[name]), model, allow_dense_start=True)


@functools.cache
def uninterrupted(name: str) -> Session:
    whole = start(name)
    train(whole, range(6))
    return whole


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_resumed_run_ends_as_the_run_that_was_never_stopped(name: str, stop: int) -> None:
    whole = uninterrupted(name)
    first = start(name)
    optimizer = torch.optim.AdamW(first.run.model.parameters(), lr=1e-2)
    train(first, range(stop), optimizer)
    second = start(name)
    second.load_state(first.state())
    second.run.model.load_state_dict(first.run.model.state_dict())
    continued = torch.optim.AdamW(second.run.model.parameters(), lr=1e-2)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, range(stop, 6), continued)
    for parameter, value in whole.run.model.named_parameters():
        assert torch.equal(value, second.run.model.get_parameter(parameter)), parameter
    assert whole.state().keys() == second.state().keys()
    for key, value in whole.state().items():
        torch.testing.assert_close(second.state()[key], value, rtol=0, atol=0, equal_nan=True)
    assert second.run.model.config.to_dict() == whole.run.model.config.to_dict()


def test_the_zeros_that_another_modifier_holds_stay_through_it() -> None:
    model = encoder()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".layer." in name and parameter.ndim == 2:
                parameter[torch.rand_like(parameter) < 0.5] = 0
    session = Session(plan(*RECIPES["zeros held"]), model)
    train(session, range(6))
    assert units(model, "neuron") == [16, 16]
    shares = [
        float((parameter == 0).float().mean())
        for name, parameter in model.named_parameters()
        if ".layer." in name and parameter.ndim == 2
    ]
    assert all(0.3 < share < 0.7 for share in shares)


def test_a_loop_that_keeps_its_last_loss_goes_on() -> None:
    """The last graph, alive, would hold accumulators for gradients of the old shapes."""
    model = encoder()
    session = Session(
        plan(("StructuredPruningModifier", NEURONS), ("LayerThinningModifier", THINNING)), model
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session.begin(CLOCK, 0, optimizer)
    losses = []
    for step in range(6):
        session.before_step(step)
        optimizer.zero_grad()
        losses.append(model(**labelled(seed=step)).loss)
        losses[-1].backward(retain_graph=True)
        optimizer.step()
        session.after_step()
    assert units(model, "neuron") == [16, 16] and all(loss.isfinite() for loss in losses)


def test_weight_decay_stays_with_the_parameters_that_it_is_meant_for() -> None:
    model = encoder()
    session = Session(
        plan(("StructuredPruningModifier", NEURONS), ("LayerThinningModifier", THINNING)), model
    )
    decayed = [name for name, parameter in model.named_parameters() if parameter.ndim == 2]
    train(session, range(1))
    session.run.decayed = frozenset(id(model.get_parameter(name)) for name in decayed)
    kept = session.run.decayed
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session.begin(CLOCK, 1, optimizer, kept)
    for step in range(1, 4):
        session.before_step(step)
        session.after_step()
    assert session.run.decayed == {id(model.get_parameter(name)) for name in decayed} != kept


def test_nothing_to_remove_is_an_error_unless_it_may_be() -> None:
    with pytest.raises(ModifierError, match=r"there are none.*StructuredPruningModifier.*strict"):
        thin(encoder())
    thin(encoder(), strict=False)


def test_it_must_not_remove_what_is_still_being_pruned() -> None:
    with pytest.raises(RecipeError, match=r"still pruning.*epoch 1"):
        Session(
            plan(("StructuredPruningModifier", NEURONS), ("LayerThinningModifier", {"start_epoch": 0.5})),
            encoder(),
        )


def test_heads_that_share_a_table_of_biases_are_refused_by_name() -> None:
    with pytest.raises(ModifierError, match=r"position biases.*structure_type: neuron"):
        thin(encoder("mpnet"), structure_type="head")
    with pytest.raises(ModifierError, match="built differently"):
        thin(dense("modernbert"))


def test_in_one_shot_it_comes_after_the_pruning_that_stands_behind_it() -> None:
    model = encoder()
    once = {
        "init_sparsity": 0.5,
        "final_sparsity": 0.5,
        "start_epoch": 0,
        "end_epoch": 0,
        "update_frequency": 1,
    }
    recipe = plan(("LayerThinningModifier", {}), ("StructuredPruningModifier", {**once, "mask_type": "head"}))
    session = Session(recipe, model)
    session.apply_once()
    assert units(model, "head") == [2, 2]
    assert all(not zero.any() for zero in zero_units_of(model, "head").values())


def test_every_modifier_can_be_told() -> None:
    """`follow` is there for all, and changes nothing where nothing is kept of parameters."""
    from sparseml.modifiers.resized import Resized

    Modifier().follow(Run(encoder(), CLOCK), Resized({"a": None}))
    assert list(batches())
