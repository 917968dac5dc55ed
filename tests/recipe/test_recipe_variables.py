from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparseml.recipe import RecipeError, load_plan

MODIFIER = "modifiers:\n  - !A\n    x: {}\n"


def field(variables: str, value: str, recipe_args: Any = None) -> Any:
    plan = load_plan(variables + MODIFIER.format(value), recipe_args)
    return plan.modifiers[0].fields["x"]


def error_of(text: str, recipe_args: Any = None) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_plan(text, recipe_args)
    return caught.value


@pytest.mark.parametrize("order", list(itertools.permutations(["a: 2", "b: eval(a * 3)", "c: eval(b + a)"])))
def test_order_does_not_matter(order: tuple[str, ...]) -> None:
    assert field("\n".join(order) + "\n", "eval(c)") == 8


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("[a, 1]", ["a", 1]),
        ("words", "words"),
        ("{k: [2]}", {"k": [2]}),
        ("true", True),
        ("", None),
        ("13", 13),
    ],
)
def test_a_lone_name_gives_any_value_unchanged(variable: str, value: Any) -> None:
    got = field(f"v: {variable}\n", "eval( v )")
    assert got == value
    assert type(got) is type(value)


def test_expressions_at_any_depth() -> None:
    got = field("e: 4\nl: [1, eval(e)]\n", "{a: [eval(e - 1), {b: eval(l)}], c: 'eval(max(e, 9))'}")
    assert got == {"a": [3, {"b": [1, 4]}], "c": 9}


def test_a_name_with_a_dash_is_a_name_first() -> None:
    assert field("num-epochs: 3\nnum: 9\nepochs: 1\n", "eval(num-epochs)") == 3


def test_each_use_is_its_own_copy() -> None:
    plan = load_plan("v: [1]\nmodifiers:\n  - !A {x: eval(v), y: eval(v)}\n")
    plan.modifiers[0].fields["x"].append(2)
    assert plan.modifiers[0].fields["y"] == [1]
    assert plan.variables["v"] == [1]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("num_epochs: 3\nmodifiers:\n  - !A {x: eval(num_epoch + 1)}\n", 3, "Did you mean 'num_epochs'?"),
        ("modifiers:\n  - !A\n    x: eval(a)\n", 3, "The recipe sets no variables."),
        (
            "a: eval(b)\nb: eval(c + 1)\nc: eval(a)\nmodifiers: [!A {}]\n",
            1,
            "a (line 1) -> b (line 2) -> c (line 3) -> a",
        ),
        ("a: eval(a)\nmodifiers: [!A {}]\n", 1, "a (line 1) -> a"),
        ("a: x\nmodifiers:\n  - !A\n    x: eval(a * 2)\n", 4, "the variable 'a' is the text 'x'"),
        ("s:\n  v: 1\n  modifiers: [!A {}]\nt:\n  modifiers: [!B {x: eval(v)}]\n", 5, "no variable 'v'"),
    ],
)
def test_errors(text: str, line: int, said: str) -> None:
    error = error_of(text)
    assert said in str(error)
    assert error.line == line


@pytest.mark.parametrize("shape", ["eval(a{})", "eval(a{} + 1)", "[eval(a{})]"])
def test_long_chains_end_in_a_value_or_a_clear_error(shape: str) -> None:
    text = "".join(f"a{n}: {shape.format(n + 1)}\n" for n in range(500)) + "a500: 1\nmodifiers: [!A {}]\n"
    message = str(error_of(text))
    assert "nested too deeply" in message or "levels of nesting" in message


def test_expressions_cannot_blow_it_up() -> None:
    text = "a0: [1]\n" + "".join(f"a{n}: [{', '.join([f'eval(a{n - 1})'] * 10)}]\n" for n in range(1, 12))
    assert "unfold to more than" in str(error_of(text + "modifiers: [!A {}]\n"))


@pytest.mark.parametrize(
    "recipe_args",
    [
        {"n": 12, "r": 3e-5},
        '{"n": 12, "r": 0.00003}',
        "n=12,r=3e-5",
        " n: 12 , r=3e-5,",
        "{n:12,r:3e-5}",
        "{'n': 12, 'r': 3e-5}",
    ],
)
def test_forms_of_recipe_args(recipe_args: Any) -> None:
    variables = "n: 13\nr: 8e-5\nboth: eval([n, r])\n".replace("eval([n, r])", "[eval(n), eval(r)]")
    assert field(variables, "eval(both)", recipe_args) == [12, 3e-5]


@pytest.mark.parametrize("recipe_args", [None, "", " ", {}, "{}"])
def test_no_recipe_args(recipe_args: Any) -> None:
    assert field("n: 13\n", "eval(n)", recipe_args) == 13


@pytest.mark.parametrize(
    ("given_as", "value"),
    [
        ("n='12'", "12"),
        ("n=yes", True),
        ("n=linear", "linear"),
        ("n=a:b", "a:b"),
        ('{"n": [1, "a"]}', [1, "a"]),
    ],
)
def test_values_of_recipe_args(given_as: str, value: Any) -> None:
    assert field("n: 13\n", "eval(n)", given_as) == value


def test_recipe_args_come_before_evaluation_and_may_be_expressions() -> None:
    assert field("n: 13\nhalf: eval(n / 2)\n", "eval(half)", "n=4") == 2
    assert field("n: 13\nm: 2\n", "eval(n)", {"n": "eval(m + 1)"}) == 3


def test_recipe_args_reach_every_stage() -> None:
    text = "n: 1\ns:\n  n: 2\n  modifiers: [!A {x: eval(n)}]\nt:\n  modifiers: [!B {x: eval(n)}]\n"
    assert [spec.fields["x"] for spec in load_plan(text, "n=9").modifiers] == [9, 9]


def test_aliases_follow_a_changed_anchor_but_not_the_other_way() -> None:
    text = "n: &n 13\nm: *n\nmodifiers:\n  - !A {x: *n, y: eval(m), z: eval(n)}\n"
    assert load_plan(text, "n=4").modifiers[0].fields == {"x": 4, "y": 4, "z": 4}
    assert load_plan(text, "m=4").modifiers[0].fields == {"x": 13, "y": 4, "z": 13}
    assert load_plan("n: &n 13\n" + MODIFIER.format("*n"), "n=4").modifiers[0].fields == {"x": 4}


@pytest.mark.parametrize(
    ("recipe_args", "said"),
    [
        ("num_epoch=3", "Did you mean 'num_epochs'?"),
        ('{"num_epochs" 3}', "not of the form name=value"),
        ('{"num_epochs": [1, 2}', "not of the form name=value"),
        ('{"num_epochs": }', "is not JSON either"),
        ("[1]", "gives no names"),
        ("num_epochs", "not of the form name=value"),
        ("num_epochs=", "not of the form name=value"),
        ("num_epochs=3,num_epochs=4", "given twice"),
        ('{"num_epochs": 3, "num_epochs": 4}', "given twice"),
        ("num_epochs=1e999", "too large"),
        ({"num_epochs": "eval(3"}, "no closing parenthesis"),
        ("unused=2", "nothing in inline recipe uses the variable 'unused'"),
    ],
)
def test_bad_recipe_args(recipe_args: Any, said: str) -> None:
    error = error_of("num_epochs: 1\nunused: 1\n" + MODIFIER.format("eval(num_epochs)"), recipe_args)
    assert said in str(error)
    assert error.source == "recipe_args"


def test_an_error_in_an_override_says_where_it_comes_from() -> None:
    message = str(error_of("n: 1\n" + MODIFIER.format("eval(n)"), {"n": "eval(1/0)"}))
    assert "eval(1/0) (from recipe_args)" in message


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_recipe_args_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(RecipeError):
        load_plan("n: 1\n" + MODIFIER.format("eval(n)"), text)
