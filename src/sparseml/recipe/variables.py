"""Variables of a recipe: scopes, and the evaluation of every `eval(...)`, in whatever order they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resparse.errors import did_you_mean
from sparseml.recipe.errors import RecipeError
from sparseml.recipe.expression import ExpressionError, evaluate
from sparseml.recipe.values import MAX_VALUES, Expression

MAX_NESTING = 40


@dataclass(frozen=True)
class Variable:
    """A variable before evaluation; line is None where recipe_args gave the value."""

    value: Any
    line: int | None


class Scope:
    """The variables that an expression may name: its own, then those of the scope around it.

    Args:
        variables: names to values in which `Expression`s stand.
        source: what the user called the recipe.
        around: the root's scope for a stage's. What it defines is evaluated there: a stage's variable
            shadows the root's for the stage's own expressions only.
    """

    def __init__(self, variables: Mapping[str, Variable], source: str, around: Scope | None = None) -> None:
        self.source = source
        self.used: set[str] = set()
        self._variables = variables
        self._around = around
        self._evaluated: dict[str, Any] = {}
        self._pending: list[str] = []
        self._copied = 0

    def values(self) -> dict[str, Any]:
        """Every variable of this scope, evaluated."""
        return {name: self._own(name) for name in self._variables}

    def evaluate(self, value: Any, depth: int = 0) -> Any:
        """A copy of `value` with every `Expression` in it, at any depth, replaced by its result.

        Raises:
            RecipeError: an expression that cannot be evaluated, at its line.
        """
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
        """A lone name gives any value unchanged, numbers or not; everything else is arithmetic."""

        def lookup(name: str) -> Any:
            return self._lookup(name, expression)

        if self._knows(expression.text):
            return lookup(expression.text)
        try:
            return evaluate(expression.text, lookup)
        except ExpressionError as error:
            raise self._error(f"{error}.", expression) from None

    def _knows(self, name: str) -> bool:
        return name in self._variables or (self._around is not None and self._around._knows(name))

    def _names(self) -> set[str]:
        return set(self._variables) | (self._around._names() if self._around else set())

    def _lookup(self, name: str, expression: Expression) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope._variables:
                scope.used.add(name)
                return scope._own(name)
            scope = scope._around
        names = self._names()
        advice = did_you_mean(name, names) if names else "The recipe sets no variables."
        raise self._error(f"there is no variable {name!r}. {advice}", expression)

    def _own(self, name: str) -> Any:
        if name in self._evaluated:
            return self._evaluated[name]
        if name in self._pending:
            raise RecipeError(self._circle(name), self.source, self._variables[name].line)
        self._pending.append(name)
        result = self.evaluate(self._variables[name].value)
        self._pending.pop()
        self._evaluated[name] = result
        return result

    def _circle(self, name: str) -> str:
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
