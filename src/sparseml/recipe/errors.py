"""Errors in a recipe, always with the place where they stand."""

from __future__ import annotations

from resparse.errors import UserError


class RecipeError(UserError):
    """A recipe that cannot be read or carried out.

    Args:
        message: what was found, why it is wrong, and what would be right.
        source: what the user called the recipe: a path, a stub, or "inline recipe".
        line: 1-based line in the source, where known.
    """

    def __init__(self, message: str, source: str, line: int | None = None) -> None:
        self.message = message
        self.source = source
        self.line = line
        place = source if line is None else f"{source}, line {line}"
        super().__init__(f"{place}: {message}")
