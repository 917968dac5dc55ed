"""Variables of a recipe: overridden by `--recipe_args`, looked up in scopes, and evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yaml.nodes import ScalarNode

from resparse.errors import did_you_mean
from sparseml.recipe.expression import ExpressionError, evaluate
from sparseml.recipe.source import RecipeError
from sparseml.recipe.yaml_reader import MAX_VALUES, STANDARD, Expression, Resolver, scalar, with_expressions

RECIPE_ARGS = "recipe_args"
MAX_NESTING = 40
_FORMS = '{"num_epochs": 12, "init_lr": 3e-5} or num_epochs=12,init_lr=3e-5'


def parse_overrides(recipe_args: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Read overrides: a mapping, the text of a JSON object, or `name=value,name:value`.

    Values of the last form are read as a recipe's: numbers are numbers, quotes keep text. Shells that strip the quotes
    of a JSON object leave `{num_epochs:12}`, which is read in that form too.
    """
    try:
        return {str(name): with_expressions(value) for name, value in read_overrides(recipe_args).items()}
    except ValueError as error:
        raise RecipeError(str(error), RECIPE_ARGS) from None


def read_overrides(recipe_args: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides by name, with the text of expressions as it is; see `parse_overrides`."""
    if isinstance(recipe_args, str):
        return _from_text(recipe_args.strip())
    return dict(recipe_args or {})


def _from_text(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        return _from_pairs(text, str(error))
    if isinstance(value, dict):
        return value
    raise RecipeError(f"{text!r} gives no names; write {_FORMS}.", RECIPE_ARGS)


def _from_pairs(text: str, json_problem: str) -> dict[str, Any]:
    braced = text.startswith("{")
    inner = text.removeprefix("{").removesuffix("}") if braced else text
    pairs = []
    for part in inner.split(","):
        if not part.strip():
            continue
        separator = min((sign for sign in "=:" if sign in part), key=part.index, default=None)
        name, value = part.split(separator, 1) if separator else (part, "")
        name, value = name.strip().strip("\"'"), value.strip()
        if not name or not value or (_quoted(value) is None and re.search(r"""[\[\]{}"']""", value)):
            problem = f" It is not JSON either: {json_problem}." if braced else ""
            raise RecipeError(
                f"{part.strip()!r} is not of the form name=value; write {_FORMS}.{problem}", RECIPE_ARGS
            )
        pairs.append((name, _scalar(value)))
    return _unique(pairs)


def _quoted(text: str) -> str | None:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else None


def _scalar(text: str) -> Any:
    if (quoted := _quoted(text)) is not None:
        return quoted
    tag: str = Resolver().resolve(ScalarNode, text, (True, False))
    try:
        return scalar(text, tag.removeprefix(STANDARD))
    except ValueError:
        raise RecipeError(f"{text!r} is too large for a number, or is no text.", RECIPE_ARGS) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise RecipeError(f"{name!r} is given twice.", RECIPE_ARGS)
        result[name] = value
    return result


@dataclass(frozen=True)
class Variable:
    """A variable before evaluation; line is None where recipe_args gave the value."""

    value: Any
    line: int | None


class Scope:
    """The variables that an expression may name: its own, then the parent's (the root's, for a stage).

    The root's are evaluated there: a stage's variable shadows the root's for the stage's own expressions only.
    """

    def __init__(self, variables: Mapping[str, Variable], source: str, parent: Scope | None = None) -> None:
        self.source = source
        self.used: set[str] = set()
        self._variables = variables
        self._parent = parent
        self._evaluated: dict[str, Any] = {}
        self._pending: list[str] = []
        self._copied = 0

    def values(self) -> dict[str, Any]:
        """Every variable of this scope, evaluated."""
        return {name: self._value_of(name) for name in self._variables}

    def evaluate(self, value: Any, depth: int = 0) -> Any:
        """A copy of `value` with every `Expression` replaced by its result, or a RecipeError at its line."""
        self._copied += 1
        if self._copied > MAX_VALUES or depth > MAX_NESTING:
            raise RecipeError(
                f"its variables unfold to more than {MAX_VALUES} values or {MAX_NESTING} levels of nesting.",
                self.source,
            )
        if isinstance(value, Expression):
            return self.evaluate(self._result(value), depth)
        if isinstance(value, list):
            return [self.evaluate(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {key: self.evaluate(item, depth + 1) for key, item in value.items()}
        return value

    def _result(self, expression: Expression) -> Any:
        """A single name gives the variable's value of any type; everything else is arithmetic."""

        def lookup(name: str) -> Any:
            return self._lookup(name, expression)

        if self._defines(expression.text):
            return lookup(expression.text)
        try:
            return evaluate(expression.text, lookup)
        except ExpressionError as error:
            raise self._error(f"{error}.", expression) from None

    def _defines(self, name: str) -> bool:
        return name in self._variables or (self._parent is not None and self._parent._defines(name))

    def _names(self) -> set[str]:
        return set(self._variables) | (self._parent._names() if self._parent else set())

    def _lookup(self, name: str, expression: Expression) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope._variables:
                scope.used.add(name)
                return scope._value_of(name)
            scope = scope._parent
        names = self._names()
        advice = did_you_mean(name, names) if names else "The recipe sets no variables."
        raise self._error(f"there is no variable {name!r}. {advice}", expression)

    def _value_of(self, name: str) -> Any:
        if name in self._evaluated:
            return self._evaluated[name]
        if name in self._pending:
            raise RecipeError(self._cycle_message(name), self.source, self._variables[name].line)
        self._pending.append(name)
        result = self.evaluate(self._variables[name].value)
        self._pending.pop()
        self._evaluated[name] = result
        return result

    def _cycle_message(self, name: str) -> str:
        names = [*self._pending[self._pending.index(name) :], name]
        lines = {step: self._variables[step].line for step in names}
        steps = [step if lines[step] is None else f"{step} (line {lines[step]})" for step in names[:-1]]
        return (
            f"its variables hang on one another in a circle: {' -> '.join([*steps, name])}. "
            "Give one of them a value of its own."
        )

    def _error(self, message: str, expression: Expression) -> RecipeError:
        text = expression.text if len(expression.text) <= 80 else expression.text[:77] + "..."
        where = "" if expression.line is not None else " (from recipe_args)"
        return RecipeError(f"eval({text}){where}: {message}", self.source, expression.line)
