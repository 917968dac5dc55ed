"""Arithmetic inside `eval(...)`: an interpreter of Python's syntax tree for numbers, names and six functions.

Python's own `eval` is never called. Any other syntax is refused; length, nesting and the size of every intermediate
number are bounded, and so are an expression's time and memory.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sparseml.recipe.source import clipped

Number = int | float
Lookup = Callable[[str], Any]

MAX_LENGTH = 500
MAX_NESTING = 100
MAX_DIGITS = 100


class ExpressionError(ValueError):
    """An expression that cannot be evaluated; the caller adds its location."""


@dataclass(frozen=True)
class _Function:
    compute: Callable[..., Any]
    least: int
    most: int


def evaluate(text: str, lookup: Lookup) -> Number:
    """Evaluate an expression (without its `eval(...)`) as Python would: ints stay ints where Python keeps them.

    Raises:
        ExpressionError: not an expression, something outside the language, no number, or too large.
    """
    return _value(_parse(text), lookup, 0)


def _parse(text: str) -> ast.expr:
    if not text.strip():
        raise ExpressionError("it is empty; write a variable's name or arithmetic between the parentheses")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"it has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"it is not arithmetic ({error.msg}); allowed are {_ALLOWED}") from None
    except (ValueError, MemoryError):
        raise ExpressionError(f"it is not arithmetic; allowed are {_ALLOWED}") from None


def _value(node: ast.expr, lookup: Lookup, nesting: int) -> Number:
    if nesting > MAX_NESTING:
        raise ExpressionError(f"it is nested more than {MAX_NESTING} deep")
    match node:
        case ast.Constant(value=bool()):
            raise ExpressionError(f"{_shown(node)} is not a number")
        case ast.Constant(value=int() | float() as number):
            return _bounded(number)
        case ast.Name(id=name):
            return _number(name, lookup(name))
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, lookup, nesting + 1)
        case ast.UnaryOp(op=ast.UAdd()):
            return _value(node.operand, lookup, nesting + 1)
        case ast.BinOp(op=op) if type(op) in _OPERATIONS:
            left = _value(node.left, lookup, nesting + 1)
            right = _value(node.right, lookup, nesting + 1)
            return _compute(_OPERATIONS[type(op)], (left, right), node)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            function = _function(name, len(arguments))
            return _compute(function, [_value(item, lookup, nesting + 1) for item in arguments], node)
    raise ExpressionError(f"{_shown(node)} is not allowed; allowed are {_ALLOWED}")


def _function(name: str, given: int) -> Callable[..., Number]:
    if name not in FUNCTIONS:
        raise ExpressionError(f"there is no function {name!r}; allowed are {' '.join(FUNCTIONS)}")
    function = FUNCTIONS[name]
    if not function.least <= given <= function.most:
        wanted = "1 number" if function.most == 1 else f"{function.least} to {function.most} numbers"
        raise ExpressionError(f"{name}() takes {wanted}, not {given}")
    return function.compute


def _compute(operation: Callable[..., Any], operands: Sequence[Number], node: ast.expr) -> Number:
    try:
        return _bounded(operation(*operands))
    except ZeroDivisionError:
        raise ExpressionError(f"{_shown(node)} divides by zero") from None
    except OverflowError:
        raise ExpressionError(f"{_shown(node)} is too large a number") from None
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"{_shown(node)} cannot be computed: {error}") from None


def _power(base: Number, exponent: Number) -> Number:
    # Python would compute 9**9**9 for hours: refuse by the digits that the result would have.
    if abs(base) > 1 and exponent * math.log10(abs(base)) > MAX_DIGITS:
        raise OverflowError
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a fractional power of a negative number")
    return result


def _round(value: Number, digits: int | None = None) -> Number:
    # Python computes 10**n to round to n digits left of the point.
    if digits is not None and abs(digits) > MAX_DIGITS:
        raise OverflowError
    return round(value, digits)


def _bounded(value: Number) -> Number:
    if not -(10**MAX_DIGITS) < value < 10**MAX_DIGITS:
        raise ExpressionError(f"a number in it has more than {MAX_DIGITS} digits, or is no number")
    return value


def _number(name: str, value: Any) -> Number:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _bounded(value)
    if isinstance(value, str):
        raise ExpressionError(
            f"the variable {name!r} is the text {value!r}; arithmetic needs a number, without quotes"
        )
    raise ExpressionError(f"the variable {name!r} is {value!r}; arithmetic needs a number")


def _shown(node: ast.expr) -> str:
    return clipped(ast.unparse(node))


_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}

FUNCTIONS = {
    "abs": _Function(abs, 1, 1),
    "float": _Function(float, 1, 1),
    "int": _Function(int, 1, 1),
    "max": _Function(max, 2, 100),
    "min": _Function(min, 2, 100),
    "round": _Function(_round, 1, 2),
}

_ALLOWED = f"numbers, variable names, + - * / // ** %, parentheses and {' '.join(FUNCTIONS)}"
