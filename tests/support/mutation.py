"""Damage to inputs, for fuzzing: bytes, tokens, and values of JSON documents are replaced, moved, repeated and cut."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

# Values that programs tend not to expect where another one stands.
HOSTILE_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        "",
        "a",
        "\ud800",
        "0",
        "../../x",
        "nan",
        [],
        {},
        [[]],
        [None],
        [{}],
        {"": None},
        {"0": []},
    ),
    *(0, -1, 1.5, -0.0, 1e308, 2**31, 2**63, 2**64, -(2**70), 10**18, float("nan"), float("inf")),
)
# The same as text, where a document is damaged so much that it is JSON no more.
_TEXTS = (
    *(b"null", b"-1", b"1e999", b"9" * 5000, b"NaN", b"[" * 3000, b'{"a":' * 3000),
    *(b"\x00", b"\xff", b"\xef\xbb\xbf"),
)
_LARGEST = 200_000


def mutated(data: bytes, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> bytes:
    """A damaged copy of an input.

    Args:
        others: inputs whose parts may come into this one.
        tokens: parts of the input's language.
    """
    result = data
    for _ in range(source.choice((1, 1, 2, 4))):
        if source.random() < 0.5 and (changed := _in_json(result, source)) is not None:
            result = changed
        else:
            result = _in_bytes(result, others, tokens, source)
    return result[:_LARGEST]


def replaced(document: Any, place: int, value: Any) -> Any:
    """A copy of a JSON document whose `place`-th value (modulo their number, depth first, itself first) is another."""
    count = _count(document)
    changed, _ = _replaced(document, place % count, value)
    return changed


def _count(document: Any) -> int:
    return 1 + sum(map(_count, _children(document)))


def _children(document: Any) -> list[Any]:
    if isinstance(document, dict):
        return list(document.values())
    return document if isinstance(document, list) else []


def _replaced(document: Any, place: int, value: Any) -> tuple[Any, int]:
    """The copy, and how many places are left."""
    if place == 0:
        return value, -1
    place -= 1
    children = []
    for child in _children(document):
        if place >= 0:
            child, place = _replaced(child, place, value)  # noqa: PLW2901
        children.append(child)
    if isinstance(document, dict):
        return dict(zip(document, children, strict=True)), place
    return children if isinstance(document, list) else document, place


def _in_json(data: bytes, source: random.Random) -> bytes | None:
    """With a value of a JSON document, or of a line of it, replaced; None where it is none."""
    lines = data.split(b"\n")
    at = source.randrange(len(lines))
    for whole in (True, False):
        try:
            document = json.loads(data if whole else lines[at])
        except (ValueError, RecursionError):
            continue
        text = json.dumps(
            replaced(document, source.randrange(10_000), source.choice(HOSTILE_VALUES))
        ).encode()
        return text if whole else b"\n".join([*lines[:at], text, *lines[at + 1 :]])
    return None


def _in_bytes(data: bytes, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> bytes:
    at = source.randint(0, len(data))
    end = min(len(data), at + source.choice((0, 1, 2, 8, 64)))
    other = source.choice(others)
    size = source.choice((1, 2, 4, 8))
    number = source.choice((0, 1, -1, 127, 255, 2**31 - 1, 2**32 - 1, 2**63 - 1)) & (256**size - 1)
    middle, rest = source.choice(
        (
            (source.randbytes(end - at), data[end:]),
            (source.choice((*tokens, *_TEXTS)), data[end:]),
            (b"", data[end:]),
            (data[at:end] * source.choice((2, 3, 100)), data[end:]),
            (b"", other[source.randint(0, len(other)) :]),
            (number.to_bytes(size, "little"), data[at + size :]),
            (b"", b""),
        )
    )
    return data[:at] + middle + rest
