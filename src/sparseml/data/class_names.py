"""The classes of two models, or of a model and data, matched by their names."""

from __future__ import annotations

from collections.abc import Sequence


def order_by_name(theirs: Sequence[str], ours: Sequence[str]) -> list[int] | None:
    """The place of each of our classes among theirs; None where they are not the same classes.

    Case and signs do not count.
    """
    by_name = {_normalized(name): index for index, name in enumerate(theirs)}
    wanted = [_normalized(name) for name in ours]
    if len(by_name) != len(theirs) or len(wanted) != len(theirs) or set(wanted) != set(by_name):
        return None
    return [by_name[name] for name in wanted]


def are_default_names(names: Sequence[str]) -> bool:
    """Whether the names are numbers, or Transformers' own: LABEL_0, LABEL_1, ..."""
    return all(_normalized(name) in (f"label{index}", str(index)) for index, name in enumerate(names))


def listed(names: Sequence[str]) -> str:
    """The names for a message, the first eight of many."""
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)})"


def _normalized(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
