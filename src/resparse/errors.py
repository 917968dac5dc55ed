"""The one base of every error that a user can cause and mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: what was got, why it is wrong, what to do.

    Commands print its text without a traceback and leave with exit code 2. Library code raises
    subclasses (`sparsezoo.ZooError`, `sparseml.recipe.RecipeError`, `sparseml.data.DataError`, ...).
    """


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that look most like `name`, best first, compared without regard to case."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    return [
        by_folded[match] for match in difflib.get_close_matches(name.lower(), by_folded, n=most, cutoff=0.5)
    ]


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """A sentence that names the nearest known names; when none is near, lists all that are known."""
    names = sorted(known)
    close = nearest(name, names, most)
    if close:
        return f"Did you mean {' or '.join(repr(match) for match in close)}?"
    return f"Known: {', '.join(names)}." if names else ""
