"""Merging a recipe's modifiers into one schedule, and refusing contradictions with both lines."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsezoo
from sparseml.modifiers import Clock, build
from sparseml.modifiers.schedule import Schedule, merge
from sparseml.recipe import ModifierSpec, Plan, RecipeError, compose, load_plan

CLOCK = Clock(steps_per_epoch=10, total_steps=60)
BUNDLED = sorted((Path(sparsezoo.__file__).parent / "recipes").rglob("*.yaml"))


def schedule(*modifiers: tuple[str, dict[str, Any]]) -> Schedule:
    """Merged from (tag without Modifier, fields), the first in line 10, the next in line 20, ..."""
    specs = [
        ModifierSpec(f"{tag}Modifier", fields, line=10 * number)
        for number, (tag, fields) in enumerate(modifiers, start=1)
    ]
    return merge(build(Plan("the recipe", tuple(specs))))


def linear(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "LearningRateFunction", {
        "lr_func": "linear",
        "init_lr": 0.1,
        "final_lr": 0.0,
        "end_epoch": 6,
        **fields,
    }


def constant(rate: float, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "SetLearningRate", {"learning_rate": rate, **fields}


def qat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "Quantization", {"submodules": ["bert.encoder"], **fields}


def lasting(epochs: float) -> tuple[str, dict[str, Any]]:
    return "EpochRange", {"end_epoch": epochs}


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: "-".join(path.parts[-3:]))
def test_every_bundled_recipe_merges_and_prints(path: Path) -> None:
    merged = merge(build(load_plan(path)))
    assert merged.epochs is not None and merged.owns_rate
    assert merged.table().row_count == len(merged.rows()) >= merged.epochs


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: "-".join(path.parts[-3:]))
def test_the_recipe_of_two_trainings_merges(path: Path) -> None:
    plan = load_plan(path)
    once = merge(build(plan)).epochs
    assert once is not None
    both = load_plan(compose(plan, plan).to_yaml())
    assert merge(build(both)).epochs == 2 * once


def test_the_tutorials_recipe_row_by_row() -> None:
    (path,) = (path for path in BUNDLED if "mnli" in path.parts)
    rows = merge(build(load_plan(path))).rows()
    assert [(row.start, row.end) for row in rows] == list(itertools.pairwise(range(14)))
    assert rows[0].rates is not None and rows[0].rates[0] == 8e-5
    assert rows[-1].rates is not None and rows[-1].rates[1] == pytest.approx(0, abs=1e-8)
    assert [row.start for row in rows if "QAT" in row.active] == [8, 9, 10, 11, 12]
    assert all({"masks", "distillation"} <= set(row.active) for row in rows)
    assert {row.start: row.events for row in rows if row.events} == {
        0: ("weight decay 0",),
        8: ("QAT begins",),
        12: ("quantization ranges held",),
    }


# At least one epoch before the shortest run's end: a coarse clock may round by half an epoch.
fractions = st.floats(0, 5)


@settings(deadline=None)
@given(
    st.floats(6, 9),
    st.lists(fractions, max_size=3),
    fractions,
    fractions,
    st.none() | st.builds(Clock, steps_per_epoch=st.integers(1, 300), total_steps=st.just(0)),
)
def test_rows_tile_the_run(
    epochs: float, decays: list[float], start: float, later: float, clock: Clock | None
) -> None:
    merged = schedule(
        lasting(epochs),
        linear(),
        qat(start_epoch=start, disable_quantization_observer_epoch=min(start + later, 6)),
        *(("SetWeightDecay", {"weight_decay": 0.1, "start_epoch": decay}) for decay in decays),
    )
    rows = merged.rows(clock=clock)
    step = 1 / (clock.steps_per_epoch if clock else 10_000)
    assert rows[0].start == 0 and rows[-1].end == pytest.approx(epochs, abs=step)
    assert all(before.end == after.start for before, after in itertools.pairwise(rows))
    assert all(row.end - row.start >= step * 0.999 for row in rows)
    # What happens is told once, whichever way its epoch rounds; what never comes is not told.
    told = [event for row in rows for event in row.events]
    assert len([event for event in told if event.startswith("weight decay")]) == len(decays)
    assert told.count("QAT begins") == (rows[0].active.count("QAT") == 0)


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0.5, 6))
def test_a_row_shows_the_rates_that_training_uses(steps_per_epoch: int, epochs: float) -> None:
    clock = Clock(steps_per_epoch, 0)
    merged = schedule(lasting(epochs), linear(end_epoch=epochs))
    for row in merged.rows(clock=clock):
        first, last = round(row.start * steps_per_epoch), round(row.end * steps_per_epoch) - 1
        assert row.rates == (merged.rate(first, clock), merged.rate(last, clock))


def test_weight_decay_in_steps_is_told_at_its_step() -> None:
    merged = schedule(lasting(2), ("SetWeightDecay", {"weight_decay": 0.1, "start_step": 5}))
    assert [row.start for row in merged.rows(clock=CLOCK) if row.events] == [0.5]


def test_without_an_epoch_range_the_last_epoch_named_is_the_length() -> None:
    assert schedule(linear(), qat(start_epoch=4)).epochs == 6
    assert schedule(linear(), qat(start_epoch=7)).epochs == 7
    assert schedule(("Distillation", {})).epochs is None


def test_an_epoch_range_without_an_end_says_nothing() -> None:
    """Its default, and what -1 means everywhere."""
    for fields in ({}, {"end_epoch": -1}, {"start_epoch": 0, "end_epoch": -1}):
        assert schedule(("EpochRange", fields), linear(), qat(start_epoch=4)).epochs == 6
        assert schedule(("EpochRange", fields)).epochs is None
        assert schedule(("EpochRange", fields), lasting(3)).epochs == 3


def test_a_recipe_in_steps_has_its_length_in_steps() -> None:
    merged = schedule(
        ("EpochRange", {"end_step": 30}),
        (
            "LearningRateFunction",
            {"lr_func": "linear", "init_lr": 0.3, "final_lr": 0, "start_step": 0, "end_step": 30},
        ),
    )
    assert (merged.epochs, merged.steps) == (None, 30)
    assert merged.rows(clock=CLOCK)[-1].end == 3


# Which setter rules.


def test_the_setter_that_began_last_rules() -> None:
    merged = schedule(constant(0.5), linear(start_epoch=2, end_epoch=4), constant(0.25, start_epoch=5))
    assert merged.rate(19, CLOCK) == 0.5
    assert merged.rate(20, CLOCK) == 0.1
    assert merged.rate(45, CLOCK) == 0.0  # the last rate stays until something else begins
    assert merged.rate(50, CLOCK) == merged.rate(500, CLOCK) == 0.25


def test_the_order_of_the_text_does_not_matter() -> None:
    setters = [constant(0.5), linear(start_epoch=2, end_epoch=4), constant(0.25, start_epoch=5)]
    forward, backward = schedule(*setters), schedule(*reversed(setters))
    assert [forward.rate(step, CLOCK) for step in range(60)] == [
        backward.rate(step, CLOCK) for step in range(60)
    ]


def test_before_the_first_setter_the_recipe_does_not_say() -> None:
    merged = schedule(linear(start_epoch=2))
    assert merged.rate(19, CLOCK) is None
    assert merged.rows()[0].rates is None


def test_setters_for_different_groups_stand_side_by_side() -> None:
    merged = schedule(constant(0.5, param_groups=[0]), constant(0.25, param_groups=[1]))
    assert [merged.rate(3, CLOCK, group) for group in range(3)] == [0.5, 0.25, None]


# Contradictions.


@pytest.mark.parametrize(
    ("modifiers", "lines", "said"),
    [
        ([linear(), linear(start_epoch=5)], (10, 20), "both set the learning rate"),
        ([linear(), constant(0.1, start_epoch=3)], (10, 20), "both set the learning rate"),
        ([constant(0.1), constant(0.2)], (10, 20), "both set the learning rate"),
        (
            [constant(0.1, param_groups=[0, 1]), constant(0.2, param_groups=[1])],
            (10, 20),
            "both set the learning rate",
        ),
        ([qat(), qat(start_epoch=3)], (10, 20), "both quantize"),
        ([("Distillation", {}), ("Distillation", {"start_epoch": 3})], (10, 20), "both distil"),
        ([lasting(6), linear(end_epoch=7)], (10, 20), "training ends at epoch 6"),
        ([lasting(6), qat(start_epoch=6)], (10, 20), "training ends at epoch 6"),
        (
            [("EpochRange", {"end_step": 30}), qat(start_step=30)],
            (10, 20),
            "training ends at step 30",
        ),
        (
            [("EpochRange", {"end_step": 30}), ("Distillation", {"start_step": 3, "end_step": 31})],
            (10, 20),
            "training ends at step 30",
        ),
    ],
)
def test_a_contradiction_names_both_lines(
    modifiers: list[tuple[str, dict[str, Any]]], lines: tuple[int, int], said: str
) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        schedule(*modifiers)
    assert caught.value.line == lines[1]
    assert re.search(rf"line {lines[0]}\b", caught.value.message)


@pytest.mark.parametrize(
    "modifiers",
    [
        [constant(0.1), linear(start_epoch=3)],
        [linear(end_epoch=3), linear(start_epoch=3)],
        [linear(end_epoch=3), constant(0.1, start_epoch=3)],
        [linear(param_groups=[0]), linear(param_groups=[1])],
        [("Distillation", {"end_epoch": 3}), ("Distillation", {"start_epoch": 3})],
        [lasting(6), linear(), qat(start_epoch=5.99)],
        [lasting(3), lasting(6), linear()],
        [("EpochRange", {"end_step": 30}), qat(start_step=29)],
    ],
)
def test_what_follows_or_stands_beside_is_no_contradiction(
    modifiers: list[tuple[str, dict[str, Any]]],
) -> None:
    schedule(*modifiers)


def test_a_modifier_with_nothing_to_do_is_not_shown() -> None:
    merged = schedule(lasting(2), ("Distillation", {"start_epoch": 1}))
    assert [row.active for row in merged.rows()] == [(), ("distillation",)]
    for modifier in merged.modifiers:
        modifier.rest()
    assert all(not row.active and not row.events for row in merged.rows())
