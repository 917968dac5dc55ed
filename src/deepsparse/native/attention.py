"""Softmax attention in a graph, its products quantized or in float."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.columns import Heads, heads
from deepsparse.native.encoder import MOST_SCORE_GRIDS, AnyLinear, AttentionGrids, AttentionProducts, Grid
from deepsparse.native.linear import is_zero_point
from deepsparse.native.masks import added
from deepsparse.native.matching import Matcher
from deepsparse.native.quantized import (
    IntegerProduct,
    Quantized,
    in_final_units,
    integer_product,
    integers,
    quantized,
    rounded,
    scaled,
    steps_of,
)
from resparse.arrays import Array

_HEADS_BACK = [0, 2, 1, 3]
_AS_THEY_ARE, _TURNED = (0, 1, 2, 3), (0, 1, 3, 2)
"""From the factors of a product to [texts, heads, tokens, size of a head]; keys are turned."""


@dataclass
class _Product:
    """A product of attention: its factors, quantized or not, what it is multiplied by, and then rounded to."""

    factors: tuple[_Factor, _Factor]
    scale: float
    grids: tuple[Grid, ...] = ()


@dataclass
class _Factor:
    """`source` is the tensor before it was quantized, if it was, and transposed by `permutation`."""

    source: str
    permutation: tuple[int, ...]
    quantized: Quantized | None
    scale: float
    by_range: bool = False


@dataclass
class _Heads:
    """Queries, keys or values, their quantization if any, and what they are multiplied by."""

    made: Heads
    quantized: Quantized | None
    factor: float


@dataclass
class _Scores:
    """The product before a masked softmax, how far tokens see, and what is added, if there is a bias in it."""

    product: _Product
    window: int | None
    added: tuple[str, ...]


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
    if len(mixed.grids) > 1:
        matcher.refuse(
            joined.inputs[0], "what attention gives, rounded once before it is read", settings.ATTENTION
        )
    probabilities, values = mixed.factors
    softmax_name = _without_guard(matcher, probabilities.source)
    of_softmax, softmax_name = rounded(matcher, softmax_name)
    softmax = matcher.needed(softmax_name, "Softmax")
    if softmax.attributes.get("axis", -1) not in (-1, 3) or probabilities.permutation:
        matcher.refuse(softmax_name, "a softmax of the last axis")
    rounded_last, masked = steps_of(matcher, softmax.inputs[0])
    scores = _scores(matcher, masked, *in_final_units(rounded_last))
    query, key, value = (
        _heads(matcher, one, axes)
        for one, axes in zip(
            (*scores.product.factors, values), (_AS_THEY_ARE, _TURNED, _AS_THEY_ARE), strict=True
        )
    )
    _check_fit(matcher, query.made, key.made, value.made)
    if not math.isclose(mixed.scale * probabilities.scale * value.factor, 1, rel_tol=1e-6):
        raise UnsupportedError("its queries, keys and values do not fit each other")
    more = _Roundings(scores.product.grids, of_softmax, next(iter(mixed.grids), None))
    by_range = [one.factors[0].by_range for one in (scores.product, mixed)]
    found = (query.quantized, key.quantized, probabilities.quantized, value.quantized)
    grids, read = _by_range_grids(found, more) if by_range[0] else _grids(found, more)
    if by_range[0] != by_range[1]:
        raise UnsupportedError(
            "only some factors of its attention's products are quantized by their range", settings.ATTENTION
        )
    return Attention(
        query.made.source,
        query.made.linear,
        key.made.linear,
        value.made.linear,
        grids,
        query.made.linear.outputs // query.made.size,
        scores.product.scale * query.factor * key.factor * read,
        query.made.frequencies,
        scores.window,
        scores.added,
    )


def _check_fit(matcher: Matcher, query: Heads, key: Heads, value: Heads) -> None:
    if not query.source == key.source == value.source:
        matcher.refuse(query.source, f"what keys and values read, {key.source!r}")
    rotations = [one.frequencies is not None for one in (query, key, value)]
    same = rotations == [False] * 3 or (
        rotations == [True, True, False] and np.array_equal(query.frequencies, key.frequencies)  # type: ignore[arg-type]
    )
    if not (query.size == key.size == value.size and same):
        raise UnsupportedError("its queries, keys and values do not fit each other")


class _Roundings(NamedTuple):
    """As in `AttentionGrids`."""

    scores: tuple[Grid, ...]
    softmax: Grid | None
    context: Grid | None


def _by_range_grids(
    found: tuple[Quantized | None, ...], more: _Roundings
) -> tuple[AttentionGrids | None, float]:
    if any(found) or any(more):
        raise UnsupportedError(
            "only some factors of its attention's products are quantized by their range", settings.ATTENTION
        )
    return AttentionGrids(None, None, None, None, products=AttentionProducts.BY_RANGE), 1.0


def _grids(found: tuple[Quantized | None, ...], more: _Roundings) -> tuple[AttentionGrids | None, float]:
    """Those of query, key, probabilities and value, and a factor of the scores that is in the scale of queries.

    They are for products of integers where such are the same.
    """
    query, key, probabilities, value = found
    if not any(found) and not any(more):
        return None, 1.0
    if any(one.read_scale != one.grid.scale for one in found[1:] if one is not None):
        raise UnsupportedError("its queries, keys and values do not fit each other")
    read = query.read_scale / query.grid.scale if query is not None else 1.0
    in_integers = (
        query
        and key
        and probabilities
        and value
        and not any(more)
        and key.is_centred()
        and value.is_centred()
    )
    if query and key and probabilities and value and in_integers:
        grids = AttentionGrids(query.unsigned(), key.centred(), probabilities.unsigned(), value.centred())
        return grids, read
    of_query, of_key, of_probabilities, of_value = (
        one.unsigned() if one is not None else None for one in found
    )
    grids = AttentionGrids(
        of_query, of_key, of_probabilities, of_value, *more, products=AttentionProducts.IN_FLOAT
    )
    return grids, read


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
    """The product that a value is, maybe times constants and rounded; None for other values."""
    steps, value = steps_of(matcher, value)
    integer = integer_product(matcher, value)
    if integer is None and matcher.producer(value, "MatMul") is None:
        return None
    grids, scale = in_final_units(steps)
    if integer is not None and matcher.producer(integer.node.inputs[0], "DynamicQuantizeLinear") is not None:
        return replace(_by_range(matcher, integer, scale), grids=grids)
    if integer is not None:
        return replace(_of_integers(matcher, integer, scale), grids=grids)
    node = matcher.producers[value]
    left, right = (_factor(matcher, name) for name in node.inputs[:2])
    return _Product((left, right), scale, grids)


def _by_range(matcher: Matcher, product: IntegerProduct, scale: float) -> _Product:
    """A product of two tensors that are quantized by their range, as optimum's dynamic quantization has it."""
    writers = [matcher.needed(name, "DynamicQuantizeLinear") for name in product.node.inputs[:2]]
    scales = matcher.needed(product.scale, "Mul").inputs
    fits = all(len(one.outputs) == 3 for one in writers) and product.bias is None
    if (
        not fits
        or sorted(scales) != sorted(one.outputs[1] for one in writers)
        or product.node.inputs[2:] != [one.outputs[2] for one in writers]
    ):
        matcher.refuse(
            product.node.outputs[0], "a product of two tensors quantized by their range", settings.ATTENTION
        )
    first, second = (
        _Factor(*matcher.transposed(one.inputs[0], ()), None, 1.0, by_range=True) for one in writers
    )
    return _Product((first, second), scale)


def _of_integers(matcher: Matcher, product: IntegerProduct, scale: float) -> _Product:
    """A product of two tensors on grids, as DeepSparse's form has it."""
    left, right = (integers(matcher, name) for name in product.node.inputs[:2])
    total = matcher.scalar(product.scale)
    fits = is_zero_point(matcher, product.node, 2, left) and is_zero_point(matcher, product.node, 3, right)
    if total is None or product.bias is not None or not fits:
        matcher.refuse(
            product.node.outputs[0], "a product of two tensors on one grid each", settings.ATTENTION
        )
    first, second = (_Factor(one.source, one.permutation, one, 1.0) for one in (left, right))
    return _Product((first, second), scale * total / (left.grid.scale * right.grid.scale))


def _factor(matcher: Matcher, value: str) -> _Factor:
    name, scale = scaled(matcher, value)
    if matcher.producer(name, "DequantizeLinear") is not None:
        found = quantized(matcher, name)
        return _Factor(found.source, found.permutation, found, scale)
    return _Factor(*matcher.transposed(name, ()), None, scale)


def _scores(matcher: Matcher, value: str, grids: tuple[Grid, ...], scale: float) -> _Scores:
    """Scores before a softmax, rounded last to `grids` and multiplied by `scale`."""
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
    if not scale > 0:
        matcher.refuse(value, "attention scores times a positive number")
    (product,) = products
    first = tuple(replace(grid, scale=grid.scale * scale) for grid in product.grids)
    if len(first) + len(grids) > MOST_SCORE_GRIDS:
        matcher.refuse(
            value, f"attention scores that are rounded {MOST_SCORE_GRIDS} times at most", settings.ATTENTION
        )
    if total.bias is not None and (grids or scale != 1):
        matcher.refuse(value, "attention scores with a bias, and not rounded after it", settings.ATTENTION)
    product = replace(product, scale=product.scale * scale, grids=(*first, *grids))
    return _Scores(product, total.window, tuple(terms) if total.bias is not None else ())


def _heads(matcher: Matcher, factor: _Factor, axes: tuple[int, ...]) -> _Heads:
    """Queries, keys or values, whose axes `axes` make [texts, heads, tokens, size of a head]."""
    steps, moved = steps_of(matcher, factor.source)
    source, turned = matcher.transposed(moved, factor.permutation)
    more, source = steps_of(matcher, source)
    order = turned or _AS_THEY_ARE
    if len(order) != len(axes):
        matcher.refuse(source, "queries, keys or values by heads")
    made = heads(matcher, source, tuple(order[axis] for axis in axes))
    # A factor after a rounding moves to the end, with what is rounded after it.
    steps += more
    grids, inner = in_final_units(steps)
    if len(grids) > 1 or (grids and (made.linear.rounding or factor.quantized is None)):
        matcher.refuse(
            source, "queries, keys or values that are rounded once before their product", settings.ATTENTION
        )
    if grids and made.frequencies is not None:
        matcher.refuse(
            source, "queries and keys that are not rounded after they are rotated", settings.ATTENTION
        )
    if grids:
        rounding = replace(grids[0], scale=grids[0].scale / inner)
        made = replace(made, linear=replace(made.linear, rounding=rounding))
    found = factor.quantized
    if found is not None and inner != 1:
        if not inner > 0:
            matcher.refuse(source, "queries, keys or values times a positive number")
        grid = replace(found.grid, scale=found.grid.scale / inner)
        found = replace(found, grid=grid, read_scale=found.read_scale / inner)
    return _Heads(made, found, factor.scale * inner)
