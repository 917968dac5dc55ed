"""Words of a text and the tokens of a model: which token is of which word, by their places in the text.

Words are joined by blanks, and the text is tokenized like any other, so that a model is trained on what it is asked
later, whatever its tokenizer does with blanks.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import numpy as np

from resparse.arrays import Array
from resparse.json_text import JsonError, parse_json


def written_list(text: str) -> list[Any] | None:
    """A list as JSON or Python writes it, such as a column of words in a CSV file; None for other texts."""
    stripped = text.strip()
    if stripped[:1] != "[" or stripped[-1:] != "]":
        return None
    value: Any = None
    with suppress(JsonError):
        value = parse_json(stripped)
    if value is None:
        # pandas writes a list as Python does; a text may also begin and end with brackets.
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            value = ast.literal_eval(stripped)
    return value if isinstance(value, list) else None


def joined(words: Sequence[str]) -> str:
    """The text of words: with a blank between."""
    return " ".join(words)


def places(words: Sequence[str]) -> Array:
    """The first and last characters of each word in `joined(words)`: [words, 2]."""
    starts = list(accumulate((len(word) + 1 for word in words), initial=0))[: len(words)]
    return np.asarray(
        [(start, start + len(word)) for start, word in zip(starts, words, strict=True)], np.int64
    ).reshape(-1, 2)


def owners(offsets: Array, spans: Array) -> Array:
    """The word of each token, [tokens]; -1 for tokens without characters, such as special ones, and between words.

    Args:
        offsets: the tokens' first and last characters, [tokens, 2].
        spans: the words', [words, 2], as of `places`.
    """
    if not len(spans):
        return np.full(len(offsets), -1)
    # Some tokenizers count the blank before a word to its first token: the last character tells.
    last = offsets[:, 1] - 1
    found = np.searchsorted(spans[:, 0], last, side="right") - 1
    inside = (offsets[:, 1] > offsets[:, 0]) & (last < spans[np.maximum(found, 0), 1]) & (found >= 0)
    return np.where(inside, found, -1)


def firsts(words: Array) -> Array:
    """Of a sequence's words by token, those at their first tokens, and -1 elsewhere: [tokens]."""
    before = np.concatenate([[-1], words[:-1]])
    return np.where(words == before, -1, words)
