"""What is added to attention scores in a graph, recognized by its values.

Exporters write it with very different operators. It is a mask of padding, and maybe one of what is too far away, and a
bias for each distance (relative positions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np

from deepsparse.native.evaluation import FAILURES, Evaluation
from deepsparse.native.matching import Matcher
from resparse.arrays import Array

MASK: Final = "attention_mask"

_FORBIDDEN: Final = -1e4
"""What is added to the scores of padding, at most."""

_TOKENS, _MOST_TOKENS = 300, 1300
"""Of the sample, which has more than any whole number that distances may be compared with."""

_PADDING, _SEEN = 7, 5
"""Tokens of padding in the sample's first row, and tokens that are none in its second."""

_COMPARISONS: Final = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")


@dataclass(frozen=True, eq=False)
class Added:
    """What is added to scores.

    Attributes:
        window: a token attends to so many on each side of it; None: to all.
        bias: float32 [heads, or 1 for all of them, 2 * tokens - 1], by the places of key - query, from 1 - tokens on;
            None: 0 throughout.
    """

    window: int | None
    bias: Array | None


def added(matcher: Matcher, terms: Sequence[str]) -> Added | None:
    """The sum of some terms, in texts of a few hundred tokens; None where it knows more than padding and distance."""
    key = ("added", *terms)
    if key not in matcher.memo:
        matcher.memo[key] = _added(matcher, terms)
    found: Added | None = matcher.memo[key]
    return found


def bias_of(matcher: Matcher, terms: Sequence[str], tokens: int) -> Array | None:
    """The bias of `added`, in texts of up to so many tokens; None where it does not go on as it began."""
    key = ("bias", tokens, *terms)
    if key not in matcher.memo:
        matcher.memo[key] = _bias(matcher, terms, tokens)
    found: Array | None = matcher.memo[key]
    return found


def _added(matcher: Matcher, terms: Sequence[str]) -> Added | None:
    tokens = max([_TOKENS, *(number + _PADDING + 2 for number in _compared(matcher, terms))])
    mask = np.ones((2, tokens), np.int64)
    mask[0, -_PADDING:] = mask[1, _SEEN:] = 0
    total = _total(matcher, terms, mask) if tokens <= _MOST_TOKENS else None
    is_rounded = total is None
    if is_rounded:
        total = _total(matcher, terms, mask, through_roundings=True) if tokens <= _MOST_TOKENS else None
    if total is None:
        return None
    first, second = total
    whole = np.concatenate(
        [first[:, -1, :-_PADDING], first[:, _PADDING - 1, : _PADDING - 1], first[:, 0, :]], axis=1
    )
    distances = np.arange(tokens) - np.arange(tokens)[:, None]
    expected = whole[:, distances + tokens - 1]
    for found, seen in ((first, tokens - _PADDING), (second, _SEEN)):
        if not (found[:, :, seen:] <= _FORBIDDEN).all():
            return None
        if not np.array_equal(found[:, :, :seen], expected[:, :, :seen]):
            return None
    reach = tokens - _PADDING
    known = whole[:, _PADDING:-_PADDING]
    apart = np.abs(np.arange(1 - reach, reach))
    near = known > _FORBIDDEN
    window = int(apart[near[0]].max(initial=-1))
    is_whole = window == reach - 1
    if (
        window < 0
        or not (near == (apart <= window)).all()
        or (whole[:, :_PADDING] > _FORBIDDEN).all() != is_whole
    ):
        return None
    bias = np.where(near, known, np.float32(0)).astype(np.float32)
    # 0 is on every grid; what padding's mask is rounded to does not matter, since padding is not computed.
    if is_rounded and bias.any():
        return None
    return Added(None if is_whole else window, bias if bias.any() else None)


def _bias(matcher: Matcher, terms: Sequence[str], tokens: int) -> Array | None:
    known = added(matcher, terms)
    total = _total(matcher, terms, np.ones((1, tokens), np.int64))
    if known is None or known.bias is None or total is None:
        return None
    whole = total[0]
    if not np.array_equal(whole[:, 1:, 1:], whole[:, :-1, :-1]):
        return None
    bias = np.concatenate([whole[:, -1, :-1], whole[:, 0, :]], axis=1).astype(np.float32)
    if known.window is not None:
        bias[:, np.abs(np.arange(1 - tokens, tokens)) > known.window] = 0
    reach = min(tokens, known.bias.shape[1] // 2 + 1)
    middle, expected = (
        one[:, one.shape[1] // 2 + 1 - reach : one.shape[1] // 2 + reach] for one in (bias, known.bias)
    )
    return bias if np.array_equal(middle, expected) else None


def _total(
    matcher: Matcher, terms: Sequence[str], mask: Array, through_roundings: bool = False
) -> Array | None:
    """The sum, [rows, heads or 1, tokens, tokens]."""
    rows, tokens = mask.shape
    evaluation = Evaluation(matcher, {MASK: mask}, rows, tokens, through_roundings)
    try:
        total = reduce(np.add, (evaluation.value(term) for term in terms))
        heads = total.shape[-3] if total.ndim > 2 else 1
        return np.broadcast_to(total, (rows, heads, tokens, tokens))
    except FAILURES:
        return None


def _compared(matcher: Matcher, terms: Sequence[str]) -> list[int]:
    """Whole numbers that are compared with something."""
    found = []
    for name in matcher.sources(terms):
        node = matcher.producer(name, *_COMPARISONS)
        for number in map(matcher.scalar, map(matcher.through, node.inputs)) if node is not None else ():
            if number is not None and number > 0 and number.is_integer():
                found.append(int(number))
    return found
