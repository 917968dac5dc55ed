"""Structured pruning: whole heads, neurons, rows and columns; their scores, exact numbers, and what goes together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_modifiers_settings import CLOCK, RAMP, batches, plan_of, train
from torch import Tensor

from sparseml.modifiers import ModifierError
from sparseml.modifiers.mask_shapes import Group
from sparseml.modifiers.structured_pruning import StructuredPruningModifier, choose_units, magnitudes
from sparseml.modifiers.units import attention_of, blocks, by_unit
from sparseml.recipe import ModifierSpec, Plan, RecipeError
from sparseml.session.session import Session
from support.encoders import batch, dense, labelled

KNOWN = ["bert", "roberta", "distilbert", "electra", "albert", "mpnet"]
AT_ONCE = {
    "init_sparsity": 0.1,
    "final_sparsity": 0.5,
    "start_epoch": 0,
    "end_epoch": 1,
    "update_frequency": 0.5,
}


def encoder(architecture: str = "bert", **settings: Any) -> Any:
    """Four heads, so that a share of them says something; without dropout, so that runs can be compared."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings = {"num_attention_heads": 4, **settings}
    if architecture == "distilbert":
        off = {"dropout": 0.0, "attention_dropout": 0.0, "n_heads": settings["num_attention_heads"]}
        off["n_layers"] = settings.get("num_hidden_layers", 2)
    return dense(architecture, **off, **settings)


def plan(*modifiers: tuple[str, dict[str, Any]]) -> Plan:
    return Plan(
        "the recipe", tuple(ModifierSpec(tag, fields, 3 + i, {}) for i, (tag, fields) in enumerate(modifiers))
    )


def pruned(model: Any, **fields: Any) -> StructuredPruningModifier:
    """The modifier after it pruned a model in one shot."""
    session = Session(plan_of("StructuredPruningModifier", {**AT_ONCE, **fields}), model)
    session.run.batches = batches
    session.apply_once()
    session.finish()
    (modifier,) = session.modifiers
    assert isinstance(modifier, StructuredPruningModifier)
    return modifier


def zero_units_of(model: Any, kind: Any) -> dict[str, Tensor]:
    """By block, the units of which every weight and bias is zero."""
    found = {}
    for block in blocks(model, kind, "the test"):
        parts = [(by_unit(model.get_parameter(part.parameter), part) == 0).all(1) for part in block.parts]
        found[block.name] = torch.stack(parts).all(0)
    return found


@pytest.mark.parametrize("architecture", KNOWN)
@pytest.mark.parametrize("kind", ["head", "neuron"])
def test_a_unit_is_all_that_a_hook_on_its_output_says(architecture: str, kind: Any) -> None:
    """A model with zeroed units computes what it computes with their outputs replaced by zeros."""
    model, inputs = encoder(architecture), batch(3, 7)
    reference = encoder(architecture)
    for parameter, other in zip(model.parameters(), reference.parameters(), strict=True):
        if parameter.ndim == 1:
            with torch.no_grad():
                other.copy_(parameter.add_(torch.randn_like(parameter), alpha=0.2))
    pruned(model, mask_type=kind)
    zero = zero_units_of(model, kind)
    assert zero and all(int(units.sum()) == len(units) // 2 for units in zero.values())
    for block in blocks(reference, kind, "the test"):
        mask = zero[block.name].repeat_interleave(block.parts[-1].size)
        reader = reference.get_submodule(block.parts[-1].parameter.removesuffix(".weight"))
        reader.register_forward_pre_hook(lambda _, inputs, mask=mask: (inputs[0].masked_fill(mask, 0),))
    torch.testing.assert_close(model(**inputs).logits, reference(**inputs).logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["head", "neuron"])
def test_the_units_of_least_norm_go(kind: Any) -> None:
    """Norms from plain loops over single units."""
    model = encoder()
    layer = model.bert.encoder.layer[1]
    if kind == "head":
        size, inward = 4, [getattr(layer.attention.self, name).weight for name in ("query", "key", "value")]
        outward = layer.attention.output.dense.weight
    else:
        size, inward, outward = 1, [layer.intermediate.dense.weight], layer.output.dense.weight
    squares = []
    for unit in range(len(inward[0]) // size):
        entries = slice(unit * size, (unit + 1) * size)
        squares.append(
            sum(float((each[entries] ** 2).sum()) for each in inward)
            + float((outward[:, entries] ** 2).sum())
        )
    expected = torch.tensor(squares).sqrt()
    torch.testing.assert_close(
        magnitudes(model, blocks(model, kind, ""))[f"bert.encoder.layer.1.{kind}s"].float(), expected
    )
    pruned(model, mask_type=kind)
    zero = zero_units_of(model, kind)[f"bert.encoder.layer.1.{kind}s"]
    assert zero.nonzero()[:, 0].tolist() == sorted(expected.argsort()[: len(expected) // 2].tolist())


@pytest.mark.parametrize("kind", ["head", "neuron"])
def test_taylor_is_the_derivative_by_a_factor_on_the_units_output(kind: Any) -> None:
    """Michel et al.: the gradient of a gate of ones, by autograd."""
    model = encoder()
    gates = {}
    for block in blocks(model, kind, "the test"):
        gates[block.name] = torch.ones(block.units, requires_grad=True)
        reader = model.get_submodule(block.parts[-1].parameter.removesuffix(".weight"))
        whole = lambda gate=gates[block.name], size=block.parts[-1].size: gate.repeat_interleave(size)  # noqa: E731
        reader.register_forward_pre_hook(lambda _, inputs, whole=whole: (inputs[0] * whole(),))
    expected = {name: torch.zeros(len(gate)) for name, gate in gates.items()}
    for each in batches():
        derivatives = torch.autograd.grad(model(**each).loss, list(gates.values()))
        for name, derivative in zip(gates, derivatives, strict=True):
            expected[name] += derivative.abs()
    session = Session(
        plan_of("StructuredPruningModifier", {**AT_ONCE, "mask_type": kind, "score_type": "taylor"}), model
    )
    session.run.batches = batches
    (modifier,) = session.modifiers
    assert isinstance(modifier, StructuredPruningModifier)
    scores = modifier._importance(session.run, modifier.blocks(session.run))
    for name, score in scores.items():
        torch.testing.assert_close(score.float(), expected[name], rtol=1e-4, atol=1e-6)
    session.apply_once()
    assert all(int(units.sum()) == len(units) // 2 for units in zero_units_of(model, kind).values())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_units_are_counted_exactly_and_one_of_each_block_stays(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    values = st.floats(0, 2, width=16)
    scores = {
        str(index): torch.tensor(data.draw(st.lists(values, min_size=size, max_size=size)))
        for index, size in enumerate(sizes)
    }
    share = data.draw(st.floats(0, 1))
    group = Group(tuple(scores), share)
    masks = choose_units(scores, [group], {})
    total, count = sum(sizes), sum(int(mask.sum()) for mask in masks.values())
    assert count == min(round(share * total), total - len(sizes))
    assert all(not mask.all() for mask in masks.values())
    free = [float(scores[name][~mask].min()) for name, mask in masks.items() if int((~mask).sum()) > 1]
    gone = [float(scores[name][mask].max()) for name, mask in masks.items() if mask.any()]
    assert (
        not free
        or not gone
        or max(gone) <= min(max(free), 2)
        or max(gone) <= max(map(float, map(torch.max, scores.values())))
    )
    later = choose_units({name: -score for name, score in scores.items()}, [Group(group.names, 1.0)], masks)
    assert all(bool((later[name] | ~mask).all()) for name, mask in masks.items()), "what is pruned stays so"


@pytest.mark.parametrize("kind", ["head", "neuron"])
@pytest.mark.parametrize("together", [False, True])
def test_it_prunes_gradually_to_its_target_and_holds_it(kind: Any, together: bool) -> None:
    model = encoder()
    fields = {**RAMP, "params": ["__ALL_PRUNABLE__"], "final_sparsity": 0.6, "mask_type": kind}
    session = Session(plan_of("StructuredPruningModifier", {**fields, "global_sparsity": together}), model)
    (modifier,) = session.modifiers
    assert isinstance(modifier, StructuredPruningModifier)
    seen = 0
    for step in range(modifier.final_step(CLOCK) + 1):
        train(session, range(step, step + 1))
        zero = zero_units_of(model, kind)
        count = sum(int(units.sum()) for units in zero.values())
        assert count >= seen
        seen = count
    units = 2 * (4 if kind == "head" else 32)
    assert seen == (round(0.6 * units) if together else 2 * round(0.6 * units / 2))


def test_filters_of_a_group_go_together() -> None:
    model = encoder()
    names = [f"bert.encoder.layer.{index}.intermediate.dense.weight" for index in (0, 1)]
    pruned(model, params=names, param_groups=[names])
    first, second = ((model.get_parameter(name) == 0).all(1) for name in names)
    assert torch.equal(first, second) and int(first.sum()) == 16


def test_channels_are_columns_and_the_classifier_is_left_alone() -> None:
    model = encoder()
    pruned(model, mask_type="channel")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            share = float((module.weight == 0).all(0).float().mean())
            assert share == (0.5 if ".layer." in name else 0.0), name


def test_params_choose_the_layers_whose_heads_are_pruned() -> None:
    model = encoder()
    pruned(model, mask_type="head", params=["re:.*layer.1.*value.weight"])
    assert [int(units.sum()) for units in zero_units_of(model, "head").values()] == [0, 2]
    pruned(model, mask_type="neuron", final_sparsity={0.25: ["re:.*layer.0.*"], 0.75: ["re:.*layer.1.*"]})
    assert [int(units.sum()) for units in zero_units_of(model, "neuron").values()] == [8, 24]


def test_from_param_begins_at_the_share_of_zero_units() -> None:
    model = encoder()
    with torch.no_grad():
        for member in (
            model.bert.encoder.layer[0].intermediate.dense,
            model.bert.encoder.layer[0].output.dense,
        ):
            member.weight[(slice(None), slice(0, 8)) if member.weight.shape[0] == 16 else slice(0, 8)] = 0
    fields = {
        **RAMP,
        "params": ["__ALL_PRUNABLE__"],
        "init_sparsity": "__FROM_PARAM__",
        "mask_type": "neuron",
    }
    session = Session(plan_of("StructuredPruningModifier", fields), model)
    train(session, range(2))
    assert [int(units.sum()) for units in zero_units_of(model, "neuron").values()] == [8, 0]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"mask_type": "head", "params": ["re:.*intermediate.dense.weight"]}, "params names no weight of a head"),
        ({"params": ["bert.embeddings.word_embeddings.weight"]}, "Linear layers"),
        ({"params": ["re:.*query.weight", "re:.*output.dense.weight"], "mask_type": "channel",
          "param_groups": [["re:.*layer.0.attention.self.query.weight", "re:.*layer.0.output.dense.weight"]]},
         "different numbers of channels"),
        ({"mask_type": "head", "param_groups": [["a"]]}, "param_groups is for filter and channel"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_the_fields_name(fields: dict[str, Any], text: str) -> None:
    with pytest.raises((ModifierError, RecipeError), match=text):
        pruned(encoder(), **fields)


def test_heads_of_another_architecture_are_refused() -> None:
    with pytest.raises(ModifierError, match="built differently"):
        pruned(dense("modernbert"), mask_type="neuron", params=["re:.*mlp.*"])


def test_it_works_beside_constant_pruning_and_other_structured_pruning() -> None:
    """Zeros of weights and zeros of units are both held."""
    model = encoder()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".layer." in name and parameter.ndim == 2:
                parameter[torch.rand_like(parameter) < 0.4] = 0
    before = {name: parameter == 0 for name, parameter in model.named_parameters() if parameter.ndim == 2}
    ramp = {**RAMP, "final_sparsity": 0.5, "params": ["__ALL_PRUNABLE__"]}
    session = Session(
        plan(
            ("ConstantPruningModifier", {"params": ["__ALL_PRUNABLE__"]}),
            ("StructuredPruningModifier", {**ramp, "mask_type": "head"}),
            ("StructuredPruningModifier", {**ramp, "mask_type": "neuron"}),
        ),
        model,
    )
    train(session, range(6))
    for name, mask in before.items():
        if ".layer." in name:
            assert not model.get_parameter(name)[mask].any()
    for kind in ("head", "neuron"):
        assert all(int(units.sum()) == len(units) // 2 for units in zero_units_of(model, kind).values())


def test_two_that_choose_at_once_are_refused_and_one_after_the_other_not() -> None:
    ramp = {**RAMP, "params": ["__ALL_PRUNABLE__"], "final_sparsity": 0.5}
    structured = ("StructuredPruningModifier", {**ramp, "mask_type": "neuron", "init_sparsity": 0.05})
    with pytest.raises(RecipeError, match="both prune at the same time"):
        Session(plan(structured, ("MagnitudePruningModifier", ramp)), encoder())
    with pytest.raises(RecipeError, match="both hold masks"):
        Session(plan(structured, structured), encoder())
    later = {**ramp, "start_epoch": 1.5, "end_epoch": 1.9, "final_sparsity": 0.8}
    session = Session(plan(structured, ("MagnitudePruningModifier", later)), model := encoder())
    train(session, range(6))
    assert all(int(units.sum()) == 16 for units in zero_units_of(model, "neuron").values())
    weight = model.bert.encoder.layer[0].intermediate.dense.weight
    assert int((weight == 0).sum()) == round(0.8 * weight.numel())


def test_the_loss_of_a_training_falls_on_what_is_left() -> None:
    """Gradients flow through the free units only."""
    model = encoder()
    session = Session(plan_of("StructuredPruningModifier", {**AT_ONCE, "mask_type": "head"}), model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(session, range(4), optimizer)
    for block in blocks(model, "head", ""):
        zero = zero_units_of(model, "head")[block.name]
        attention: Any = attention_of(model, block)
        moments = by_unit(optimizer.state[attention.value.weight]["exp_avg"], block.parts[4])
        assert not moments[zero].any() and moments[~zero].any()
    assert model(**labelled()).loss.isfinite()


def test_its_zeros_stay_through_the_updates_of_another_pruning() -> None:
    """The optimal brain surgeon moves weights that it does not prune; at every forward pass the units are zero."""
    model = encoder()
    ramp = {**RAMP, "params": ["__ALL_PRUNABLE__"], "final_sparsity": 0.5}
    later = {
        "init_sparsity": 0.01,
        "final_sparsity": 0.05,
        "start_epoch": 1.5,
        "end_epoch": 2,
        "update_frequency": -1,
    }
    recipe = plan(
        ("StructuredPruningModifier", {**ramp, "mask_type": "neuron"}),
        ("OBSPruningModifier", {"params": ["re:.*output.dense.weight"], "num_grads": 8, **later}),
    )
    seen = []

    def watch(*_: Any) -> None:
        if model.training:  # not while gradients are collected
            seen.append([int(units.sum()) for units in zero_units_of(model, "neuron").values()])

    model.register_forward_pre_hook(watch)
    train(Session(recipe, model), range(6))
    assert seen[4:] == [[16, 16]] * 2
