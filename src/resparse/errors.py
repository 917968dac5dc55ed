"""Errors that a user can cause and mend, suggestions for misspelled names, and the check for foreign packages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


class UserError(Exception):
    """A mistake that the user can mend: what was got, why it is wrong, what to do.

    Commands print its text without a traceback and leave with exit code 2. Library code raises
    subclasses (`sparsezoo.ZooError`, `sparseml.recipe.RecipeError`, `sparseml.data.DataError`, ...).
    """


class ForeignPackageError(UserError, ImportError):
    """Another distribution of the same import name is installed in this environment."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that look most like `name`, best first, compared without regard to case."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    return [
        by_folded[match] for match in difflib.get_close_matches(name.lower(), by_folded, n=most, cutoff=0.5)
    ]


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """A sentence that names the nearest known names; when none is near, lists all that are known."""
    names = sorted(filter(None, known))
    close = nearest(name, names, most)
    if close:
        return f"Did you mean {' or '.join(repr(match) for match in close)}?"
    return f"Known: {', '.join(names)}." if names else ""


def refuse_foreign(name: str) -> None:
    """Raise when the old distribution `name` is installed beside resparse.

    Both would write into the same folder of the environment, so what gets imported would be a mixture.

    Raises:
        ForeignPackageError: with the command that mends it.
    """
    for suffix in ("", "-nightly"):
        try:
            found = version(name + suffix)
        except PackageNotFoundError:
            continue
        raise ForeignPackageError(
            f"The distribution {name}{suffix} {found} is installed beside resparse, and both provide the "
            f"package {name!r}: their files are mixed. Remove it and reinstall resparse:\n"
            f"  pip uninstall --yes {name}{suffix} && pip install --force-reinstall --no-deps resparse"
        )
