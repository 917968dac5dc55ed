"""What a graph makes of a linear layer's outputs, recognized by its values: parts of them, by heads, maybe rotated.

Exporters part them with Reshape, Slice, Split, Squeeze and Transpose in many orders, and some models have one layer for
queries, keys and values, or for what is activated and its gate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from deepsparse.native.encoder import AnyLinear, Linear
from deepsparse.native.evaluation import FAILURES, Evaluation
from deepsparse.native.linear import is_sum_with_product, linear
from deepsparse.native.masks import MASK
from deepsparse.native.matching import Matcher
from resparse.arrays import Array

_TOKENS: Final = 67
"""Of the sample: a prime, which no other dimension is."""

_TOLERANCE: Final = 1e-4

_WANTED: Final = "outputs of a linear layer, in their order, by heads, or rotated by their positions"


@dataclass(frozen=True, eq=False)
class Heads:
    """Queries, keys or values.

    Attributes:
        linear: that computes them.
        source: what it reads.
        size: of a head.
        frequencies: of rotary positions, float32 [size / 2], by which each dimension of the first half of a head is
            rotated with the one half a head further; None: there are none.
    """

    linear: AnyLinear
    source: str
    size: int
    frequencies: Array | None


def heads(matcher: Matcher, value: str, permutation: tuple[int, ...]) -> Heads:
    """Outputs of a linear layer by heads.

    Args:
        matcher: of the graph.
        value: they, and
        permutation: of its axes, after which they are [texts, heads, tokens, size].

    Raises:
        UnsupportedError: they are computed otherwise.
    """
    whole, sample = _sample(matcher, value)
    found = _found(matcher, value, whole, sample)
    if found is not None and found.ndim == 4:
        found = found.transpose(permutation)
        count, tokens, size = found.shape[1:]
        start = _start(sample, found[0, :, 0].reshape(-1))
        if found.shape[0] == 1 and tokens == _TOKENS and start is not None:
            part = (
                sample[:, :, start : start + count * size]
                .reshape(1, _TOKENS, count, size)
                .transpose(0, 2, 1, 3)
            )
            layer, source = _part(matcher, whole, start, count * size)
            if np.array_equal(found, part):
                return Heads(layer, source, size, None)
            for frequencies in _constants(matcher, value, whole, size // 2):
                if np.allclose(found, rotated(part, frequencies), atol=_TOLERANCE):
                    return Heads(layer, source, size, frequencies)
    return matcher.refuse(value, _WANTED)


def columns(matcher: Matcher, value: str) -> tuple[AnyLinear, str]:
    """Some neighbouring outputs of a linear layer, or all, and its input.

    Raises:
        UnsupportedError: the value is computed otherwise.
    """
    whole, sample = _sample(matcher, value)
    found = _found(matcher, value, whole, sample)
    if found is not None and found.ndim == 3:
        start = _start(sample, found[0, 0])
        if start is not None and np.array_equal(found, sample[:, :, start : start + found.shape[2]]):
            return _part(matcher, whole, start, found.shape[2])
    return matcher.refuse(value, _WANTED)


def rotated(x: Array, frequencies: Array) -> Array:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) of [..., tokens, size]: by halves, not by neighbours."""
    angles = np.arange(x.shape[-2], dtype=np.float32)[:, None] * frequencies
    cosine, sine = np.cos(angles), np.sin(angles)
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _sample(matcher: Matcher, value: str) -> tuple[str, Array]:
    """The linear layer that a value is computed from, and outputs of it to compute the value for."""
    is_linear = {
        name: is_sum_with_product(matcher, name)
        for name in matcher.sources([value], lambda name: is_sum_with_product(matcher, name))
    }
    found = [name for name, is_one in is_linear.items() if is_one]
    if len(found) != 1:
        matcher.refuse(value, _WANTED)
    key = ("linear", found[0])
    if key not in matcher.memo:
        matcher.memo[key] = linear(matcher, found[0])
    outputs = matcher.memo[key][0].outputs
    return found[0], np.random.default_rng(0).standard_normal((1, _TOKENS, outputs)).astype(np.float32)


def _found(matcher: Matcher, value: str, whole: str, sample: Array) -> Array | None:
    known = {whole: sample, MASK: np.ones((1, _TOKENS), np.int64)}
    try:
        return Evaluation(matcher, known, 1, _TOKENS).value(value)
    except FAILURES:
        return None


def _start(sample: Array, of_first: Array) -> int | None:
    """Where the first token's outputs, which are never rotated, lie among all."""
    places = np.flatnonzero(sample[0, 0] == of_first[:1])
    for start in places:
        if np.array_equal(sample[0, 0, start : start + of_first.size], of_first):
            return int(start)
    return None


def _part(matcher: Matcher, whole: str, start: int, count: int) -> tuple[AnyLinear, str]:
    layer, source = matcher.memo["linear", whole]
    if count == layer.outputs:
        return layer, source
    rows = slice(start, start + count)
    more = {"scales": layer.scales[rows]} if isinstance(layer, Linear) else {}
    return replace(layer, weights=layer.weights[rows], biases=layer.biases[rows], **more), source


def _constants(matcher: Matcher, value: str, whole: str, size: int) -> list[Array]:
    """Vectors of so many numbers, besides what computes the linear layer."""
    found = map(matcher.constant, matcher.sources([value], whole.__eq__))
    return [
        one.reshape(-1) for one in found if one is not None and one.dtype == np.float32 and one.size == size
    ]
