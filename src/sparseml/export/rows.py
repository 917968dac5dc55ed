"""Rows to try an exported model on: the user's own where they are known, else texts of many lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from sparseml.export.verify import Row

MOST: Final = 1000
"""Rows compared at most."""

_MADE: Final = 64


def some(rows: Sequence[Row], most: int = MOST) -> list[Row]:
    """At most so many rows, evenly spread over all."""
    if len(rows) <= most:
        return list(rows)
    return [rows[index * len(rows) // most] for index in range(most)]


def made_up(tokenizer: Any, limit: int, count: int = _MADE) -> list[Row]:
    """Texts of the tokenizer's own words, from none to more than `limit`; the same ones every time."""
    words = sorted(
        word
        for token in tokenizer.get_vocab()
        if (word := token.lstrip("Ġ▁#")).isalpha() and token not in tokenizer.all_special_tokens
    )
    source = random.Random(0)
    longest = min(limit, 512)
    lengths = [0, 1, 2, longest, *(round(longest ** (index / count)) for index in range(count - 4))]
    return [(" ".join(source.choices(words or ["a"], k=length)),) for length in lengths[:count]]
