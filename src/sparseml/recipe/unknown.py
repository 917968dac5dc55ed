"""What is said of a modifier, or of its property, that does not exist."""

from __future__ import annotations

from collections.abc import Collection

from resparse.errors import did_you_mean, nearest

SUFFIX = "Modifier"


def unknown_modifier(tag: str, known: Collection[str]) -> str:
    """With the nearest names: by what stands before "Modifier", in which all are alike."""
    by_stem = {name.removesuffix(SUFFIX): name for name in known}
    near = [by_stem[stem] for stem in nearest(tag.removesuffix(SUFFIX), by_stem)]
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(sorted(known))}."
    return f"there is no modifier called {tag!r}. {hint}"


def unknown_property(tag: str, name: str, fields: Collection[str], given: Collection[str]) -> str:
    """With the nearest names of fields that are not given yet."""
    known = [field for field in fields if field not in given] or list(fields)
    return f"{tag} has no property {name!r}. {did_you_mean(name, known)}"
