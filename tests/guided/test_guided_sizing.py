"""The recipe's variables for data of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseml.guided.sizing import RECIPE, batch_for, fit
from sparseml.recipe import load_plan


def test_for_5000_rows_it_is_the_recipe_as_it_stands() -> None:
    recipe = {name: float(value) for name, value in load_plan(RECIPE).variables.items()}
    assert fit(5000, 4).variables == {name: recipe[name] for name in fit(5000, 4).variables}
    assert fit(5000, 4).batch == 32


@given(st.integers(1, 10**7), st.integers(1, 1000))
def test_any_size_gives_a_training_that_can_be_carried_out(rows: int, classes: int) -> None:
    sized = fit(rows, classes)
    variables = sized.variables
    assert 3 <= variables["num_epochs"] <= 30
    assert 0 < variables["qat_start_epoch"] < variables["observer_epoch"] < variables["num_epochs"]
    assert 0 < variables["init_lr"] <= 3e-4
    assert sized.steps == variables["num_epochs"] * -(-rows // sized.batch)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 100))
def test_more_rows_never_mean_more_epochs_of_one_batch_size(first: int, second: int, classes: int) -> None:
    few, many = sorted((first, second))
    assert batch_for(few) <= batch_for(many)
    if batch_for(few) == batch_for(many):
        assert fit(few, classes).variables["num_epochs"] >= fit(many, classes).variables["num_epochs"]


def test_more_classes_take_more_steps() -> None:
    assert fit(10_000, 50).steps > fit(10_000, 2).steps


def test_what_the_user_says_is_kept() -> None:
    sized = fit(1000, 2, batch=64, epochs=2.5, rate=1e-5)
    assert sized.batch == 64
    assert sized.variables["num_epochs"] == 2.5
    assert sized.variables["init_lr"] == 1e-5
    assert sized.variables["qat_start_epoch"] == pytest.approx(1.75)


def test_a_wider_model_learns_slower() -> None:
    assert fit(3257, 4, width=768).variables["init_lr"] == pytest.approx(1e-4)


@pytest.mark.parametrize("rows", [16, 48, 192, 1200])
def test_what_was_taught_before_is_settled_in_about_sixty_steps(rows: int) -> None:
    sized = fit(rows, 6, taught=True)
    per_epoch = -(-rows // sized.batch)
    assert 60 <= sized.steps < 60 + per_epoch and sized.variables["init_lr"] == 1e-6
    given = fit(rows, 6, taught=True, epochs=3, rate=1e-4).variables
    assert (given["num_epochs"], given["init_lr"]) == (3, 1e-4)
