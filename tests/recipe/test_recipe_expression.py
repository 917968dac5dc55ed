from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparseml.recipe import RecipeError, load_plan
from sparseml.recipe.expression import ExpressionError, evaluate

NAMES: dict[str, Any] = {"epochs": 13, "rate": 1.5e-4, "start": 8.0, "n": -3}

numbers = st.one_of(
    st.integers(0, 1000).map(str), st.floats(1e-6, 1e6).map(repr), st.sampled_from(sorted(NAMES))
)


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
        inner.map("+ {}".format),
        st.tuples(st.sampled_from(["abs", "float", "int", "round"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(inner, st.integers(0, 5)).map(lambda t: f"round({t[0]}, {t[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), pair).map(lambda t: f"{t[0]}({t[1][0]}, {t[1][1]})"),
        st.tuples(inner, st.integers(0, 4)).map(lambda t: f"({t[0]}) ** {t[1]}"),
    )


def value_of(text: str) -> Any:
    return evaluate(text, NAMES.__getitem__)


@settings(deadline=None)
@given(st.recursive(numbers, _combined, max_leaves=8))
def test_agrees_with_python(text: str) -> None:
    try:
        expected = eval(text, {}, NAMES)
    except (ZeroDivisionError, OverflowError):
        expected = None
    try:
        got = value_of(text)
    except ExpressionError:
        # Refused only where Python fails as well, or where powers may grow beyond the bound.
        assert expected is None or "**" in text
        return
    assert type(got) is type(expected)
    assert got == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs - 1", 12),
        ("epochs / 2", 6.5),
        ("epochs // 2", 6),
        ("rate * 0.5", 7.5e-5),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("max(epochs - 5, 0)", 8),
        ("round(2.567, 1)", 2.6),
        ("int(start) + 1", 9),
        ("8e-5", 8e-5),
    ],
)
def test_values(text: str, expected: float) -> None:
    assert value_of(text) == expected
    assert type(value_of(text)) is type(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "divides by zero"),
        ("epochs % 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("9**9**9", "too large"),
        ("1e99 * 1e99", "100 digits"),
        ("(-8) ** 0.5", "fractional power"),
        ("1e999", "100 digits"),
        ("'a' + 'b'", "is not allowed"),
        ("True + 1", "is not a number"),
        ("1 if epochs else 2", "is not allowed"),
        ("epochs < 3", "is not allowed"),
        ("__import__('os').system('x')", "is not allowed"),
        ("epochs.__class__", "is not allowed"),
        ("[1, 2]", "is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("sqrt(2)", "no function 'sqrt'"),
        ("max(1)", "2 to 100 numbers, not 1"),
        ("abs(1, 2)", "1 number, not 2"),
        ("round(1, ndigits=1)", "is not allowed"),
        ("round(1, 0.5)", "cannot be computed"),
        ("round(5, -10 ** 9)", "too large"),
        ("max(*[1, 2])", "to 100 numbers, not 1"),
        ("", "it is empty"),
        ("1 +", "not arithmetic"),
        ("1; 2", "not arithmetic"),
        ("x := 3", "not arithmetic"),
        ("1\0", "not arithmetic"),
        ("1" * 501, "at most 500"),
        ("-" * 400 + "1", "nested"),
        ("(" * 240 + "1" + ")" * 240, "not arithmetic"),
        ("1j", "is not allowed"),
        ("1 << 9999", "is not allowed"),
        ("1if 1else 2", "is not allowed"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        value_of(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", ["8", [1], None, True, {}, math.nan, math.inf])
def test_names_must_be_numbers(value: Any) -> None:
    with pytest.raises(ExpressionError):
        evaluate("x + 1", {"x": value}.__getitem__)


@settings(deadline=None)
@given(st.text(alphabet="0123456789.*/+-%() eabsminmaxroundintfloat,xyz", max_size=60))
def test_any_text_is_quick_and_a_number_or_an_error(text: str) -> None:
    began = time.process_time()
    try:
        result = evaluate(text, lambda name: 3)
    except ExpressionError:
        return
    finally:
        assert time.process_time() - began < 0.5
    assert isinstance(result, int | float)
    assert math.isfinite(result)


def test_error_in_a_recipe_names_expression_and_line() -> None:
    with pytest.raises(RecipeError) as caught:
        load_plan("a: 1\nmodifiers:\n  - !A\n    x: eval(a / 0)\n")
    assert str(caught.value) == "inline recipe, line 4: eval(a / 0): 'a / 0' divides by zero."
