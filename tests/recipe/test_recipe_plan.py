from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparseml.recipe import ModifierSpec, Plan, RecipeError, compose, load_plan
from sparseml.recipe.plan import end_of

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: (
        "modifiers" not in name and name not in ("version", "log_types", "y", "n", "yes", "no", "on", "off")
    )
)
# Texts that YAML would read as something else are the interesting ones.
texts = st.one_of(
    st.text(max_size=12).filter(lambda text: "eval" not in text),
    st.sampled_from(
        ["8e-5", "1_0", "yes", "Off", "null", "~", "", "<<", "!A", "0x1", ".inf", "a: b", "- a", "\u2028"]
    ),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(names, texts, st.integers()), inner, max_size=3),
    ),
    max_leaves=5,
)
mappings = st.dictionaries(names, values, max_size=4)


@st.composite
def plans(draw: st.DrawFn, staged: bool | None = None) -> Plan:
    if staged is None:
        staged = draw(st.booleans())
    stages = draw(st.lists(names, min_size=1, max_size=3, unique=True)) if staged else [None]
    variables = draw(mappings.filter(lambda found: not set(found) & set(stages)))
    specs: list[ModifierSpec] = []
    for position, stage in enumerate(stages):
        groups = draw(st.lists(names, min_size=1, max_size=3, unique=True))
        for group in groups:
            for _ in range(draw(st.integers(1, 2))):
                fields = draw(mappings) | {"start_epoch": position}
                tag = draw(st.from_regex(r"[A-Z][A-Za-z]{1,8}", fullmatch=True))
                specs.append(ModifierSpec(tag, fields, 0, {}, f"{group}_modifiers", stage))
    return Plan(
        source="",
        modifiers=tuple(specs),
        variables=variables,
        stage_variables={stage: draw(mappings) for stage in stages if stage is not None},
        metadata=draw(st.one_of(st.none(), mappings)),
    )


def bare(plan: Plan) -> Plan:
    """A plan without its source and lines."""
    return replace(
        plan, source="", modifiers=tuple(replace(s, line=0, field_lines={}) for s in plan.modifiers)
    )


@settings(max_examples=40, deadline=None)
@given(plans())
def test_reads_back_to_the_same_plan(plan: Plan) -> None:
    text = plan.to_yaml()
    again = bare(load_plan(text))
    assert again == bare(plan)
    assert types_of(again) == types_of(plan)
    assert again.to_yaml() == text


def types_of(plan: Plan) -> str:
    """Python says 1 == 1.0 == True; their text tells them apart."""
    return repr([plan.variables, plan.stage_variables, [s.fields for s in plan.modifiers], plan.metadata])


@settings(max_examples=20, deadline=None)
@given(plans(), plans())
def test_composed_plans_read_back_too(base: Plan, following: Plan) -> None:
    composed = compose(base, following)
    assert bare(load_plan(composed.to_yaml())) == bare(composed)
    assert len(set(composed.stages)) == len(composed.stages) == len(base.stages) + len(following.stages)


def plan_of(text: str) -> Plan:
    return load_plan(text)


def test_readable() -> None:
    text = "n: 3\ntraining_modifiers:\n  - !A\n      x: eval(n)\n      l: [a, b]\n  - !B\n"
    plan = replace(plan_of(text), metadata={"seed": 1})
    assert plan.to_yaml() == (
        "version: 1.1.0\n\n__metadata__:\n  seed: 1\n\nn: 3\n\n"
        "training_modifiers:\n  - !A\n    x: 3\n    l: [a, b]\n  - !B {}\n"
    )


def test_a_single_modifier_under_a_name_of_its_own() -> None:
    plan = plan_of("warmup: !A {x: 1}\n")
    assert bare(plan_of(plan.to_yaml())) == bare(plan)


BASE = """
modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 2.5}
  - !ConstantPruningModifier {start_epoch: 0.0, end_epoch: -1}
"""
NEXT = """
seed: 3
modifiers:
  - !EpochRangeModifier {start_epoch: 0, end_epoch: 4}
  - !QuantizationModifier
    {start_epoch: 1, freeze_bn_stats_epoch: 3.5, end_epoch: -1, cycle_epochs: 2, init_epoch: null}
"""


def test_compose_shifts_every_epoch() -> None:
    composed = compose(plan_of(BASE), plan_of(NEXT))
    assert composed.stages == ("stage_0", "stage_1")
    first, second = composed.modifiers[:2], composed.modifiers[2:]
    assert [spec.fields for spec in first] == [spec.fields for spec in plan_of(BASE).modifiers]
    assert [spec.fields for spec in second] == [
        {"start_epoch": 3, "end_epoch": 7},
        {
            "start_epoch": 4,
            "freeze_bn_stats_epoch": 6.5,
            "end_epoch": -1,
            "cycle_epochs": 2,
            "init_epoch": None,
        },
    ]
    assert composed.stage_variables == {"stage_0": {}, "stage_1": {"seed": 3}}
    assert composed.variables == {}


def test_compose_goes_on() -> None:
    twice = compose(replace(plan_of(BASE), metadata={"a": 1}), replace(plan_of(NEXT), metadata={"b": 2}))
    thrice = compose(twice, replace(plan_of(NEXT), metadata={"c": 3}))
    assert thrice.stages == ("stage_0", "stage_1", "stage_2")
    assert end_of(thrice) == 11
    assert thrice.metadata == {"stage_0": {"a": 1}, "stage_1": {"b": 2}, "stage_2": {"c": 3}}
    # Whichever way they are put together, the same comes out.
    later = compose(replace(plan_of(NEXT), metadata={"b": 2}), replace(plan_of(NEXT), metadata={"c": 3}))
    assert bare(compose(replace(plan_of(BASE), metadata={"a": 1}), later)) == bare(thrice)


def test_named_stages_keep_their_names_while_they_are_free() -> None:
    staged = plan_of(
        "prune:\n  modifiers: [!A {start_epoch: 0}]\nquant:\n  modifiers: [!B {start_epoch: 3}]\n"
    )
    assert compose(staged, staged).stages == ("prune", "quant", "prune_2", "quant_3")


@pytest.mark.parametrize("epoch", ["soon", "true", ".nan", "[1]"])
def test_compose_refuses_an_epoch_that_is_no_number(epoch: str) -> None:
    wrong = plan_of(f"modifiers:\n  - !A\n    end_epoch: {epoch}\n")
    for base, following in ((wrong, plan_of(NEXT)), (plan_of(NEXT), wrong)):
        with pytest.raises(RecipeError, match="line 3: end_epoch of A is"):
            compose(base, following)


def test_infinite_and_missing_values_survive() -> None:
    fields: dict[str, Any] = {"a": float("inf"), "b": float("-inf"), "c": None, "d": {}, "e": []}
    plan = Plan("", (ModifierSpec("A", fields, 1),))
    assert plan_of(plan.to_yaml()).modifiers[0].fields == fields
