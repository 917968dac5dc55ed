"""Softmax attention in a graph, its products quantized or in float."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.columns import Heads, heads
from deepsparse.native.encoder import AnyLinear, AttentionGrids
from deepsparse.native.linear import IntegerProduct, integer_product, is_zero_point
from deepsparse.native.masks import added
from deepsparse.native.matching import Matcher
from deepsparse.native.quantized import Quantized, integers, quantized
from resparse.arrays import Array

_MOST_FACTORS: Final = 4
"""Constants that a product is multiplied by, one after the other."""

_HEADS_BACK: Final = [0, 2, 1, 3]
_AS_THEY_ARE, _TURNED = (0, 1, 2, 3), (0, 1, 3, 2)
"""From the factors of a product to [texts, heads, tokens, size of a head]; keys are turned."""


@dataclass
class _Product:
    """A product of attention: its factors, quantized or not, and what it is multiplied by."""

    factors: tuple[_Factor, _Factor]
    scale: float


@dataclass
class _Factor:
    """`source` is the tensor before it was quantized, if it was, and transposed by `permutation`."""

    source: str
    permutation: tuple[int, ...]
    quantized: Quantized | None
    scale: float


@dataclass
class Attention:
    """Queries, keys and values, and what is made of them.

    Attributes:
        entry: the input of the three linear layers.
        grids, score_scale, frequencies, window: as in `Layer`.
        added: what is added to the scores, where there is a bias in it.
    """

    entry: str
    query: AnyLinear
    key: AnyLinear
    value: AnyLinear
    grids: AttentionGrids | None
    heads: int
    score_scale: float
    frequencies: Array | None
    window: int | None
    added: tuple[str, ...]


def attention(matcher: Matcher, context: str) -> Attention:
    """Softmax attention that computes `context`.

    Raises:
        UnsupportedError: it is computed otherwise.
    """
    joined = matcher.needed(context, "Reshape")
    moved = matcher.needed(joined.inputs[0], "Transpose")
    if moved.attributes.get("perm") != _HEADS_BACK:
        matcher.refuse(joined.inputs[0], "the heads, moved back")
    # Some exporters write down the shape that the product has anyway.
    shaped = matcher.producer(moved.inputs[0], "Reshape")
    mixed = _needed_product(matcher, moved.inputs[0] if shaped is None else shaped.inputs[0])
    probabilities, values = mixed.factors
    softmax_name = _without_guard(matcher, probabilities.source)
    softmax = matcher.needed(softmax_name, "Softmax")
    if softmax.attributes.get("axis", -1) not in (-1, 3) or probabilities.permutation:
        matcher.refuse(softmax_name, "a softmax of the last axis")
    scores, window, terms = _scores(matcher, softmax.inputs[0])
    query, key, value = (
        _heads(matcher, one, axes)
        for one, axes in zip((*scores.factors, values), (_AS_THEY_ARE, _TURNED, _AS_THEY_ARE), strict=True)
    )
    _check_fit(matcher, query, key, value)
    if not math.isclose(mixed.scale * probabilities.scale * values.scale, 1, rel_tol=1e-6):
        raise UnsupportedError("its queries, keys and values do not fit each other")
    of_query, of_key = scores.factors
    factor = scores.scale * of_query.scale * of_key.scale
    grids, read = _grids(of_query.quantized, of_key.quantized, probabilities.quantized, values.quantized)
    return Attention(
        query.source,
        query.linear,
        key.linear,
        value.linear,
        grids,
        query.linear.outputs // query.size,
        factor * read,
        query.frequencies,
        window,
        terms,
    )


def _heads(matcher: Matcher, factor: _Factor, axes: tuple[int, ...]) -> Heads:
    """Queries, keys or values; takes constants that they are multiplied by into the factor's scale."""
    source, inner = _scaled(matcher, factor.source)
    factor.scale *= inner
    order = factor.permutation or _AS_THEY_ARE
    if len(order) != len(axes):
        matcher.refuse(source, "queries, keys or values by heads")
    return heads(matcher, source, tuple(order[axis] for axis in axes))


def _check_fit(matcher: Matcher, query: Heads, key: Heads, value: Heads) -> None:
    if not query.source == key.source == value.source:
        matcher.refuse(query.source, f"what keys and values read, {key.source!r}")
    rotations = [one.frequencies is not None for one in (query, key, value)]
    same = rotations == [False] * 3 or (
        rotations == [True, True, False] and np.array_equal(query.frequencies, key.frequencies)  # type: ignore[arg-type]
    )
    if not (query.size == key.size == value.size and same):
        raise UnsupportedError("its queries, keys and values do not fit each other")


def _grids(*found: Quantized | None) -> tuple[AttentionGrids | None, float]:
    """Of queries, keys, probabilities and values, and a factor of the scores that is in the scale of queries."""
    if not any(found):
        return None, 1.0
    if not all(found):
        raise UnsupportedError("only some factors of its attention's products are quantized")
    of_query, *others = [one for one in found if one is not None]
    if any(one.read_scale != one.grid.scale for one in others):
        raise UnsupportedError("its queries, keys and values do not fit each other")
    of_key, of_probabilities, of_value = others
    grids = AttentionGrids(
        of_query.unsigned(), of_key.centred(), of_probabilities.unsigned(), of_value.centred()
    )
    return grids, of_query.read_scale / of_query.grid.scale


def _without_guard(matcher: Matcher, value: str) -> str:
    """Probabilities, before `Where(IsNaN(p), 0, p)`: rows in which every token is masked, which do not occur here."""
    chosen = matcher.producer(value, "Where")
    test = matcher.producer(chosen.inputs[0], "IsNaN") if chosen is not None else None
    if (
        chosen is None
        or test is None
        or test.inputs[0] != chosen.inputs[2]
        or matcher.scalar(chosen.inputs[1]) != 0
    ):
        return value
    return chosen.inputs[2]


def _needed_product(matcher: Matcher, value: str) -> _Product:
    found = _product(matcher, value)
    if found is None:
        matcher.refuse(value, "a product of attention")
    return found


def _product(matcher: Matcher, value: str) -> _Product | None:
    """The product that a value is, maybe times constants; None for other values."""
    scale = 1.0
    for _ in range(_MOST_FACTORS):
        integer = integer_product(matcher, value)
        node = matcher.producer(value, "MatMul")
        if integer is not None:
            return _of_integers(matcher, integer, scale)
        if node is not None:
            left, right = (_factor(matcher, name) for name in node.inputs[:2])
            return _Product((left, right), scale)
        inner, more = _scaled(matcher, value)
        if inner == value:
            return None
        value, scale = inner, scale * more
    return None


def _of_integers(matcher: Matcher, product: IntegerProduct, scale: float) -> _Product:
    """A product of two tensors on grids, as DeepSparse's form has it."""
    left, right = (integers(matcher, name) for name in product.node.inputs[:2])
    total = matcher.scalar(product.scale)
    fits = is_zero_point(matcher, product.node, 2, left) and is_zero_point(matcher, product.node, 3, right)
    if total is None or product.bias is not None or not fits:
        matcher.refuse(product.node.outputs[0], "a product of two tensors on one grid each")
    first, second = (_Factor(one.source, one.permutation, one, 1.0) for one in (left, right))
    return _Product((first, second), scale * total / (left.grid.scale * right.grid.scale))


def _factor(matcher: Matcher, value: str) -> _Factor:
    name, scale = _scaled(matcher, value)
    if matcher.producer(name, "DequantizeLinear") is not None:
        found = quantized(matcher, name)
        return _Factor(found.source, found.permutation, found, scale)
    return _Factor(*matcher.transposed(name, ()), None, scale)


def _scores(matcher: Matcher, value: str) -> tuple[_Product, int | None, tuple[str, ...]]:
    """The product before a masked softmax, how far tokens see, and what is added, if there is a bias in it."""
    products: list[_Product] = []
    terms: list[str] = []
    for term in matcher.terms(value):
        found = _product(matcher, term)
        if found is not None:
            products.append(found)
        else:
            terms.append(term)
    total = added(matcher, terms) if len(products) == 1 else None
    if total is None:
        matcher.refuse(value, "attention scores, with a mask added, and maybe a bias for each distance")
    return products[0], total.window, tuple(terms) if total.bias is not None else ()


def _scaled(matcher: Matcher, value: str) -> tuple[str, float]:
    """A value before it is multiplied or divided by a constant, and that factor."""
    node = matcher.producer(value, "Mul", "Div")
    if node is None:
        return value, 1.0
    numbers = [matcher.scalar(name) for name in node.inputs[:2]]
    if numbers[1]:
        return node.inputs[0], numbers[1] if node.op_type == "Mul" else 1 / numbers[1]
    if numbers[0] and node.op_type == "Mul":
        return node.inputs[1], numbers[0]
    return value, 1.0
