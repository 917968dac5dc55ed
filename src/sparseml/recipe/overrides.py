"""`--recipe_args`: values that replace a recipe's variables before anything is evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from yaml.nodes import ScalarNode

from sparseml.recipe.errors import RecipeError
from sparseml.recipe.nodes import STANDARD, Resolver
from sparseml.recipe.values import scalar, with_expressions

SOURCE = "recipe_args"
_FORMS = '{"num_epochs": 12, "init_lr": 3e-5} or num_epochs=12,init_lr=3e-5'


def parse_overrides(recipe_args: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Read overrides: a mapping, the text of a JSON object, or `name=value,name:value`.

    Values of the last form are read as a recipe would read them: numbers are numbers, quotes keep text.
    Shells that eat the quotes of a JSON object leave `{num_epochs:12}`, which is read in that form too.

    Raises:
        RecipeError: none of these forms, or a name given twice.
    """
    if isinstance(recipe_args, str):
        recipe_args = _from_text(recipe_args.strip())
    try:
        return {str(name): with_expressions(value) for name, value in (recipe_args or {}).items()}
    except ValueError as error:
        raise RecipeError(str(error), SOURCE) from None


def _from_text(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        return _from_pairs(text, str(error))
    if isinstance(value, dict):
        return value
    raise RecipeError(f"{text!r} gives no names; write {_FORMS}.", SOURCE)


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
                f"{part.strip()!r} is not of the form name=value; write {_FORMS}.{problem}", SOURCE
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
        raise RecipeError(f"{text!r} is too large for a number, or is no text.", SOURCE) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise RecipeError(f"{name!r} is given twice.", SOURCE)
        result[name] = value
    return result
