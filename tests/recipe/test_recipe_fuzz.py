"""Whatever text stands in a recipe, the answer is a plan or a RecipeError."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparseml.recipe import RecipeError, load_plan

GOOD = """\
n: &n 13
rate: 8e-5
both: {a: [eval(n), *n], <<: {b: 1}}
training_modifiers:
  - !EpochRangeModifier
      start_epoch: 0.0
      end_epoch: eval(n * 2 - 1)
  - !LearningRateFunctionModifier
    init_lr: eval(rate)
    names: ['re:.*', "x"]
"""
# fmt: off
pieces = st.sampled_from([
    "\n", "  ", "- ", "!A", "!", "!!", "&a ", "*a", "<<: ", "a: ", "modifiers:", "eval(", ")", "[", "]",
    "{", "}", "'", '"', "#", "\t", "---\n", "...", "? ", "| ", "> ", "%", "\\x", "1e5", "~", ",",
    "stage:", "__metadata__: ",
])
# fmt: on


def check(text: str) -> None:
    try:
        plan = load_plan("\n" + text)
    except RecipeError:
        return
    load_plan(plan.to_yaml())


@settings(deadline=None)
@given(st.text(max_size=80))
def test_arbitrary_text(text: str) -> None:
    check(text)


@settings(deadline=None)
@given(st.lists(pieces, max_size=25).map("".join))
def test_arbitrary_pieces_of_recipes(text: str) -> None:
    check(text)


@settings(deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.one_of(pieces, st.text(max_size=3)))
def test_a_good_recipe_with_one_mistake(place: int, removed: int, inserted: str) -> None:
    check(GOOD[:place] + inserted + GOOD[place + removed :])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), st.sampled_from(["yaml", "md"])
)
def test_arbitrary_bytes_in_a_file(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"recipe.{suffix}"
    path.write_bytes(data)
    try:
        load_plan(path)
    except RecipeError as error:
        assert str(path) in str(error)
