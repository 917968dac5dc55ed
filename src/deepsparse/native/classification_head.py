"""The head of a classifier in a graph: its linear layers, and the tokens that they are applied to."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.activations import activation
from deepsparse.native.encoder import AnyLinear, FloatLinear, Grid, Head, HeadTokens, Norm
from deepsparse.native.evaluation import FAILURES, Evaluation
from deepsparse.native.linear import is_sum_with_product, linear
from deepsparse.native.masks import MASK
from deepsparse.native.matching import Matcher
from deepsparse.native.norms import find_norm
from deepsparse.native.quantized import rounded

MOST_HEADS: Final = 4
"""Linear layers."""

_TOKENS, _SEEN, _WIDTH = 11, 5, 3
"""Of a sample: tokens, those of the second text that are no padding, and the size of hidden states."""


def recognize_head(matcher: Matcher, logits: str) -> tuple[list[Head], str, HeadTokens]:
    """The head that computes logits, the encoder's output, and which tokens of it the head is applied to.

    Raises:
        UnsupportedError: the logits are computed otherwise.
    """
    head: list[Head] = []
    value = logits
    for _ in range(MOST_HEADS):
        after, value = _norm_after(matcher, value)
        kind, before = activation(matcher, value)
        layer, value = linear(matcher, before)
        head.insert(0, Head(layer, kind, after))
        grid, first = _rounded_first(matcher, value)
        if grid is not None:
            head[0] = replace(head[0], linear=_reading(matcher, layer, grid, value))
            return head, first, HeadTokens.FIRST
        if is_layer(matcher, value):
            return head, value, HeadTokens.EVERY
        if find_norm(matcher, value) is None:
            found = _tokens(matcher, value)
            if found is not None:
                return head, *found
    raise UnsupportedError(f"its head has more than {MOST_HEADS} linear layers")


def _rounded_first(matcher: Matcher, value: str) -> tuple[Grid | None, str]:
    """The grid that the encoder's output is rounded to, of which a value is the first token, and that output."""
    first = matcher.producer(value, "Gather")
    if first is None or first.attributes.get("axis", 0) != 1 or matcher.scalar(first.inputs[1]) != 0:
        return None, value
    grid, hidden = rounded(matcher, first.inputs[0])
    return (grid, hidden) if is_layer(matcher, hidden) else (None, value)


def _reading(matcher: Matcher, layer: AnyLinear, grid: Grid, value: str) -> AnyLinear:
    """The layer, where what it reads was rounded to a grid before."""
    if grid == layer.grid:
        return layer
    if layer.grid is not None or not isinstance(layer, FloatLinear):
        matcher.refuse(value, "hidden states that are rounded to one grid", settings.INPUTS)
    return replace(layer, grid=grid)


def is_layer(matcher: Matcher, hidden: str) -> bool:
    """Whether a value is the output of an encoder's layer, and neither that of its embeddings nor a head's."""
    found = find_norm(matcher, hidden)
    return found is not None and is_sum_with_product(matcher, found[1])


def _norm_after(matcher: Matcher, value: str) -> tuple[Norm | None, str]:
    return find_norm(matcher, value) or (None, value)


def _tokens(matcher: Matcher, value: str) -> tuple[str, HeadTokens] | None:
    """The encoder's output, and which tokens of it a value is made of, one a text; None for other values."""
    found = [
        name
        for name in matcher.sources([value], lambda name: is_layer(matcher, name) or name == MASK)
        if is_layer(matcher, name)
    ]
    if len(found) != 1:
        return None
    hidden = np.random.default_rng(0).standard_normal((2, _TOKENS, _WIDTH)).astype(np.float32)
    mask = np.ones((2, _TOKENS), np.int64)
    mask[1, _SEEN:] = 0
    try:
        chosen = Evaluation(matcher, {found[0]: hidden, MASK: mask}, 2, _TOKENS).value(value)
    except FAILURES:
        return None
    means = np.stack([hidden[0].mean(axis=0), hidden[1, :_SEEN].mean(axis=0)])
    if np.array_equal(chosen, hidden[:, 0]):
        return found[0], HeadTokens.FIRST
    if chosen.shape == means.shape and np.allclose(chosen, means, atol=1e-5):
        return found[0], HeadTokens.MEAN
    return None
