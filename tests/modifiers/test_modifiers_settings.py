"""What holds for every modifier, driven by one table of settings.

A new modifier needs a line here; the last test of this file says so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from resparse.errors import UserError
from sparseml.modifiers import MODIFIERS, Clock, ModifierError, build
from sparseml.modifiers.pruning import GradualPruningModifier, PruningModifier
from sparseml.recipe import ModifierSpec, Plan, RecipeError, load_plan
from sparseml.session.session import Session
from support.encoders import dense, labelled
from support.tiny import prune

CLOCK = Clock(steps_per_epoch=3, total_steps=6)
LINE = 7


@dataclass(frozen=True)
class Setting:
    """One modifier as a recipe writes it.

    Attributes:
        fields: what the recipe says; all that is required, and more.
        required: the names of those that cannot be left out.
        wrong: (field, value) that will not do.
        matchless: (field, value) whose names match nothing in any model.
    """

    fields: dict[str, Any]
    required: tuple[str, ...] = ()
    wrong: tuple[str, Any] = ("start_epoch", "soon")
    matchless: tuple[str, Any] | None = None


NO_SUCH = ["bert.encoder.leyer.0.attention.self.query"]

RAMP = {
    "params": ["re:bert.encoder.*.dense.weight"],
    "init_sparsity": 0.05,
    "final_sparsity": 0.9,
    "start_epoch": 0.34,  # step 1
    "end_epoch": 1.5,
    "update_frequency": 0.5,
}
REQUIRED = ("params", "init_sparsity", "final_sparsity", "end_epoch", "update_frequency")

SETTINGS = {
    "EpochRangeModifier": Setting({"start_epoch": 0, "end_epoch": 2.0}, wrong=("end_epoch", 0)),
    "LearningRateFunctionModifier": Setting(
        {"lr_func": "cosine", "init_lr": 1e-2, "final_lr": 0, "start_epoch": 0, "end_epoch": 2},
        ("lr_func", "init_lr", "final_lr", "end_epoch"),
        ("lr_func", "parabola"),
    ),
    "LearningRateModifier": Setting(
        {"lr_class": "MultiStepLR", "lr_kwargs": {"milestones": [0.5, 1], "gamma": 0.5}, "init_lr": 0.01},
        ("lr_class", "lr_kwargs", "init_lr"),  # lr_kwargs for MultiStepLR
        ("init_lr", 0),
    ),
    "SetLearningRateModifier": Setting({"learning_rate": 0.01}, ("learning_rate",), ("learning_rate", -1)),
    "SetWeightDecayModifier": Setting(
        {"weight_decay": 0.1, "start_epoch": 0.5, "param_groups": [0]},
        ("weight_decay",),
        ("weight_decay", -0.5),
        ("param_groups", [5]),
    ),
    "TrainableParamsModifier": Setting(
        {"params": ["re:bert.embeddings.*"], "trainable": False, "end_epoch": 1},
        ("params", "trainable"),
        ("trainable", "perhaps"),
        ("params", NO_SUCH),
    ),
    "SetParamModifier": Setting(
        {"params": ["classifier.bias"], "val": [0.5, -0.5, 0.0], "start_epoch": 1},
        ("params", "val"),
        ("params", []),
        ("params", NO_SUCH),
    ),
    "ConstantPruningModifier": Setting(
        {"params": ["__ALL_PRUNABLE__"], "start_epoch": 0.0}, ("params",), ("params", 3), ("params", NO_SUCH)
    ),
    "MagnitudePruningModifier": Setting(
        {
            **RAMP,
            "init_sparsity": "__FROM_PARAM__",
            "inter_func": "linear",
            "mask_type": "2:4",
            "final_sparsity": 0.5,
        },
        REQUIRED,
        ("mask_type", "4:2"),
        ("params", NO_SUCH),
    ),
    "GlobalMagnitudePruningModifier": Setting(
        {**RAMP, "mask_type": "block4", "leave_enabled": False},
        REQUIRED,
        ("final_sparsity", 1),
        ("params", NO_SUCH),
    ),
    "GMPruningModifier": Setting(
        {**RAMP, "score_type": "magnitude", "phased": False}, REQUIRED, ("phased", True), ("params", NO_SUCH)
    ),
    "MovementPruningModifier": Setting(
        {**RAMP, "mask_type": [2, 2], "inter_func": "cosine"},
        REQUIRED,
        ("init_sparsity", 0.95),
        ("params", NO_SUCH),
    ),
    "OBSPruningModifier": Setting(
        {
            **RAMP,
            "num_grads": 8,
            "damp": 1e-6,
            "fisher_block_size": 8,
            "mask_type": "block4",
            "grad_sampler_kwargs": {"batch_size": 3},
            "num_recomputations": 2,
        },
        REQUIRED,
        ("fisher_block_size", 0),
        ("params", NO_SUCH),
    ),
    "LayerwisePruningModifier": Setting(
        {
            "params": ["re:bert.encoder.*.dense.weight"],
            "final_sparsity": 0.8,
            "start_epoch": 0.34,
            "num_calibration_steps": 4,
            "global_sparsity": True,
            "block_size": 8,
        },
        ("params", "final_sparsity"),
        ("num_calibration_steps", 0),
        ("params", NO_SUCH),
    ),
    "StructuredPruningModifier": Setting(
        {
            **RAMP,
            "mask_type": "filter",
            "score_type": "taylor",
            "num_grads": 4,
        },
        ("init_sparsity", "final_sparsity", "end_epoch", "update_frequency"),
        ("mask_type", "block4"),
        ("params", NO_SUCH),
    ),
    "LayerThinningModifier": Setting(
        {"structure_type": "filter", "start_epoch": 0, "update_epochs": [1.0], "strict": True},
        wrong=("structure_type", "rows"),
    ),
    "LayerPruningModifier": Setting(
        {"layers": ["bert.encoder.layer.0"], "start_epoch": 1},
        ("layers",),
        ("layers", []),
        ("layers", ["leyer"]),
    ),
    "QuantizationModifier": Setting(
        {
            "start_epoch": 1,
            "disable_quantization_observer_epoch": 1.5,
            "quantize_embeddings": 1,
            "quantize_linear_activations": 0,
            "exclude_module_types": ["LayerNorm"],
            "submodules": ["bert.embeddings", "bert.encoder", "classifier"],
        },
        wrong=("weight_bits", 1),
        matchless=("submodules", ["bert.encoderr"]),
    ),
    "DistillationModifier": Setting(
        {"hardness": 1.0, "temperature": 3.0, "distill_output_keys": ["logits"]}, wrong=("hardness", 2)
    ),
    "PerLayerDistillationModifier": Setting(
        {"gain": 0.5, "attention_gain": 0.1, "normalize": False, "epsilon": 1e-5}, wrong=("epsilon", 0)
    ),
}

every_modifier = pytest.mark.parametrize(("tag", "setting"), SETTINGS.items(), ids=SETTINGS)


def plan_of(tag: str, fields: dict[str, Any]) -> Plan:
    lines = {name: LINE + 1 + number for number, name in enumerate(fields)}
    return Plan("the recipe", (ModifierSpec(tag, fields, LINE, lines),))


def batches() -> Iterator[dict[str, Any]]:
    """An epoch of training batches."""
    return (labelled(seed=100 + number) for number in range(4))


def train(session: Session, steps: range, optimizer: torch.optim.Optimizer | None = None) -> None:
    """The loop of modifiers/base.py, with nothing around it."""
    model = session.run.model.train()
    session.run.batches = batches
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
    session.begin(CLOCK, steps.start, optimizer)
    for step in steps:
        session.before_step(step)
        rate = session.schedule.rate(step, CLOCK)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] if rate is None else rate
        optimizer.zero_grad()
        model(**labelled(seed=step)).loss.backward()
        session.after_backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        session.before_optimizer_step()
        optimizer.step()
        session.after_step()


def pruned_model() -> Any:
    # No dropout, so that two runs need not share a random stream.
    model = dense(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    prune(model)
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():  # the second head and some neurons of a layer are zero, for LayerThinningModifier
        layer.attention.output.dense.weight[:, 8:] = 0
        layer.output.dense.weight[:, 5:9] = 0
    return model


@every_modifier
def test_it_is_built_from_a_plan_and_knows_its_place(tag: str, setting: Setting) -> None:
    (modifier,) = build(plan_of(tag, setting.fields))
    assert type(modifier) is MODIFIERS[tag]
    assert modifier.name == tag and modifier.place == ("the recipe", LINE)
    assert modifier.model_fields_set == set(setting.fields)


@every_modifier
def test_it_survives_being_written_and_read(tag: str, setting: Setting) -> None:
    plan = plan_of(tag, setting.fields)
    again = load_plan(plan.to_yaml())
    assert [(spec.tag, spec.fields) for spec in again.modifiers] == [(tag, setting.fields)]
    assert build(again)[0].model_dump() == build(plan)[0].model_dump()


@every_modifier
def test_every_field_is_explained(tag: str, setting: Setting) -> None:
    unexplained = [name for name, field in MODIFIERS[tag].model_fields.items() if not field.description]
    assert not unexplained and MODIFIERS[tag].__doc__


@every_modifier
def test_a_misspelt_property_names_the_near_one_in_its_line(tag: str, setting: Setting) -> None:
    for name in setting.fields:
        others = {key: value for key, value in setting.fields.items() if key != name}
        with pytest.raises(RecipeError) as caught:
            build(plan_of(tag, {**others, f"{name}x": setting.fields[name]}))
        if setting.required and caught.value.line == LINE:
            continue  # pydantic told of what is missing first
        assert f"has no property '{name}x'" in caught.value.message and f"'{name}'" in caught.value.message
        assert caught.value.line == LINE + 1 + len(others)


@every_modifier
def test_a_missing_property_is_asked_for(tag: str, setting: Setting) -> None:
    for name in setting.required:
        with pytest.raises(RecipeError) as caught:
            build(plan_of(tag, {key: value for key, value in setting.fields.items() if key != name}))
        assert tag in caught.value.message and name in caught.value.message
        assert caught.value.line == LINE
    leftover = {key: value for key, value in setting.fields.items() if key in setting.required}
    build(plan_of(tag, leftover))


@every_modifier
def test_a_wrong_value_is_named_in_its_line_and_on_one_line(tag: str, setting: Setting) -> None:
    name, value = setting.wrong
    fields = {key: each for key, each in setting.fields.items() if key != name}
    with pytest.raises(RecipeError) as caught:
        build(plan_of(tag, {**fields, name: value}))
    assert tag in caught.value.message and name in caught.value.message
    assert "\n" not in caught.value.message and "pydantic" not in caught.value.message
    assert caught.value.line in (LINE, LINE + 1 + len(fields))


@every_modifier
def test_it_trains(tag: str, setting: Setting) -> None:
    model = pruned_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    session = Session(plan_of(tag, setting.fields), model)
    train(session, range(CLOCK.total_steps))
    session.finish()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert any(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


@every_modifier
@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_a_resumed_run_ends_as_the_run_that_was_never_stopped(tag: str, setting: Setting, stop: int) -> None:
    plan = plan_of(tag, setting.fields)
    whole = Session(plan, pruned_model())
    train(whole, range(CLOCK.total_steps))

    first = Session(plan, pruned_model())
    optimizer = torch.optim.AdamW(first.run.model.parameters(), lr=1e-2)
    train(first, range(stop), optimizer)
    state = {key: value.clone() for key, value in first.state().items()}
    weights = {name: value.clone() for name, value in first.run.model.state_dict().items()}

    second = Session(plan, pruned_model())
    second.load_state(state)
    second.run.model.load_state_dict(weights)
    continued = torch.optim.AdamW(second.run.model.parameters(), lr=1e-2)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, range(stop, CLOCK.total_steps), continued)

    for name, parameter in whole.run.model.named_parameters():
        assert torch.equal(parameter, second.run.model.get_parameter(name)), name
    assert whole.state().keys() == second.state().keys()
    for key, value in whole.state().items():
        torch.testing.assert_close(value, second.state()[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("tag", [tag for tag in SETTINGS if issubclass(MODIFIERS[tag], PruningModifier)])
def test_it_prunes_to_exactly_its_target(tag: str) -> None:
    """Each tensor where it ranks each by itself, all together where it ranks them together."""
    model = pruned_model()
    session = Session(plan_of(tag, SETTINGS[tag].fields), model)
    (modifier,) = session.modifiers
    assert isinstance(modifier, PruningModifier)
    if isinstance(modifier, GradualPruningModifier):
        train(session, range(modifier.final_step(CLOCK)))
    else:
        session.run.batches = batches
        session.apply_once()
    groups, shape = modifier.final_groups(session.run), modifier.shape
    assert len(groups) == (1 if modifier.one_threshold else len(modifier.parameters(session.run)))
    for group in groups:
        weights = [model.get_parameter(name) for name in group.names]
        side = 1 if shape.of else weights[0].numel() // shape.unit_scores(weights[0]).numel()
        zeros = sum(weight.numel() - int(weight.count_nonzero()) for weight in weights)
        assert zeros == side * round(group.sparsity * sum(weight.numel() for weight in weights) / side)
        if shape.of:
            assert all((weight.reshape(-1, shape.of) != 0).sum(1).eq(shape.kept).all() for weight in weights)


@every_modifier
def test_its_state_is_told_back_as_it_was(tag: str, setting: Setting) -> None:
    plan = plan_of(tag, setting.fields)
    session = Session(plan, pruned_model())
    train(session, range(CLOCK.total_steps))
    state = session.state()
    other = Session(plan, pruned_model())
    other.load_state(state)
    assert other.state().keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(other.state()[key], value, rtol=0, atol=0, equal_nan=True)


@every_modifier
def test_it_leaves_the_checkpoints_keys_alone(tag: str, setting: Setting) -> None:
    """They are those of a new model of the configuration."""
    model = pruned_model()
    session = Session(plan_of(tag, setting.fields), model)
    train(session, range(CLOCK.total_steps))
    assert list(model.state_dict()) == list(type(model)(model.config).state_dict())


@pytest.mark.parametrize("tag", [tag for tag, setting in SETTINGS.items() if setting.matchless])
def test_it_says_so_when_it_matched_nothing(tag: str) -> None:
    setting = SETTINGS[tag]
    assert setting.matchless is not None
    name, value = setting.matchless
    with pytest.raises((ModifierError, RecipeError), match=rf"{tag}.*{name}|{tag}.*{value[0]}"):
        train(Session(plan_of(tag, {**setting.fields, name: value}), pruned_model()), range(6))


def test_an_unknown_modifier_names_the_near_one() -> None:
    with pytest.raises(RecipeError, match=r"line 7.*'ConstantPruneModifier'.*'ConstantPruningModifier'"):
        build(plan_of("ConstantPruneModifier", {}))


@pytest.mark.parametrize(
    ("tag", "first"),
    [("GMPPruningModifier", "GMPruningModifier"), ("EpochRange", "EpochRangeModifier")],
)
def test_names_are_near_by_what_is_their_own(tag: str, first: str) -> None:
    """All end alike, so that the longest common part would be that."""
    with pytest.raises(RecipeError, match=f"Did you mean '{first}'"):
        build(plan_of(tag, {}))


def test_nothing_near_lists_all() -> None:
    with pytest.raises(RecipeError, match="Known: ConstantPruningModifier, DistillationModifier"):
        build(plan_of("Q", {}))


@pytest.mark.parametrize("tag", [tag for tag in MODIFIERS if tag != "EpochRangeModifier"])
def test_a_span_that_ends_before_it_begins_is_refused(tag: str) -> None:
    fields = {**SETTINGS[tag].fields, "start_epoch": 3, "end_epoch": 1}
    with pytest.raises(UserError, match=r"end_epoch"):
        build(plan_of(tag, fields))


def test_every_modifier_is_in_the_table() -> None:
    assert SETTINGS.keys() == MODIFIERS.keys()
