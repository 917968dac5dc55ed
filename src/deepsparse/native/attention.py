"""Softmax attention in a graph, its products quantized or in float."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.encoder import MOST_SCORE_GRIDS, AnyLinear, AttentionGrids, AttentionProducts, Grid
from deepsparse.native.linear import is_zero_point, linear
from deepsparse.native.masks import is_mask
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
from deepsparse.native.shapes import last_size

_QUERIES, _KEYS = (0, 2, 1, 3), (0, 2, 3, 1)


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
    """Queries, keys or values: their linear layer, their quantization if any, and the size of a head."""

    linear: AnyLinear
    quantized: Quantized | None
    size: int
    factor: float


@dataclass
class Attention:
    """Queries, keys and values, and what is made of them; `grids` and `score_scale` as in `Layer`."""

    query: AnyLinear
    key: AnyLinear
    value: AnyLinear
    grids: AttentionGrids | None
    heads: int
    score_scale: float


def attention(matcher: Matcher, context: str, entry: str) -> Attention:
    """Softmax attention, from the layer's input `entry` to `context`.

    Raises:
        UnsupportedError: it is computed otherwise.
    """
    joined = matcher.needed(context, "Reshape")
    moved = matcher.needed(joined.inputs[0], "Transpose")
    if moved.attributes.get("perm") != list(_QUERIES):
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
    query, key = (
        _heads(matcher, one, permutation, entry)
        for one, permutation in zip(scores.factors, (_QUERIES, _KEYS), strict=True)
    )
    value = _heads(matcher, values, _QUERIES, entry)
    if not query.size == key.size == value.size or not math.isclose(
        mixed.scale * probabilities.scale * value.factor, 1, rel_tol=1e-6
    ):
        raise UnsupportedError("its queries, keys and values do not fit each other")
    factor = scores.scale * query.factor * key.factor
    heads = query.linear.outputs // query.size
    found = (query.quantized, key.quantized, probabilities.quantized, value.quantized)
    if scores.factors[0].by_range:
        if not mixed.factors[0].by_range or any(found) or scores.grids or mixed.grids or of_softmax:
            raise UnsupportedError(
                "only some factors of its attention's products are quantized by their range",
                settings.ATTENTION,
            )
        grids = AttentionGrids(None, None, None, None, products=AttentionProducts.BY_RANGE)
        return Attention(query.linear, key.linear, value.linear, grids, heads, factor)
    more = _Roundings(scores.grids, of_softmax, next(iter(mixed.grids), None))
    if not any(found) and not any(more):
        return Attention(query.linear, key.linear, value.linear, None, heads, factor)
    if any(one.read_scale != one.grid.scale for one in found[1:] if one is not None):
        raise UnsupportedError("its queries, keys and values do not fit each other")
    if query.quantized is not None:
        factor *= query.quantized.read_scale / query.quantized.grid.scale
    return Attention(query.linear, key.linear, value.linear, _grids(found, more), heads, factor)


class _Roundings(NamedTuple):
    """As in `AttentionGrids`."""

    scores: tuple[Grid, ...]
    softmax: Grid | None
    context: Grid | None


def _grids(found: tuple[Quantized | None, ...], more: _Roundings) -> AttentionGrids:
    """Those of query, key, probabilities and value; for products of integers where such are the same."""
    query, key, probabilities, value = found
    if (
        query
        and key
        and probabilities
        and value
        and not any(more)
        and key.is_centred()
        and value.is_centred()
    ):
        return AttentionGrids(query.unsigned(), key.centred(), probabilities.unsigned(), value.centred())
    of_query, of_key, of_probabilities, of_value = (
        one.unsigned() if one is not None else None for one in found
    )
    return AttentionGrids(
        of_query, of_key, of_probabilities, of_value, *more, products=AttentionProducts.IN_FLOAT
    )


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


def _scores(matcher: Matcher, value: str, grids: tuple[Grid, ...], scale: float) -> _Product:
    """The product before a masked softmax, rounded last to `grids` and multiplied by `scale`.

    Constants that are added to a mask, and its roundings, leave it 0 for tokens.
    """
    products: list[_Product] = []
    masks, others = 0, []
    for term in matcher.terms(value):
        found = _product(matcher, term)
        if found is not None:
            products.append(found)
        elif is_mask(matcher, term):
            masks += 1
        else:
            others.append(term)
    if len(products) != 1 or not masks:
        matcher.refuse(value, "attention scores with a mask of all tokens added")
    if others:
        raise UnsupportedError(
            f"its attention adds {others[0]!r} to the scores, as models do whose positions are relative"
        )
    if not scale > 0:
        matcher.refuse(value, "attention scores times a positive number")
    (product,) = products
    first = tuple(replace(grid, scale=grid.scale * scale) for grid in product.grids)
    if len(first) + len(grids) > MOST_SCORE_GRIDS:
        matcher.refuse(
            value, f"attention scores that are rounded {MOST_SCORE_GRIDS} times at most", settings.ATTENTION
        )
    return replace(product, scale=product.scale * scale, grids=(*first, *grids))


def _heads(matcher: Matcher, factor: _Factor, permutation: tuple[int, ...], entry: str) -> _Heads:
    """Queries, keys or values, computed from the layer's input and split into heads."""
    steps, moved = steps_of(matcher, factor.source)
    source, turned = matcher.transposed(moved, factor.permutation)
    more, source = steps_of(matcher, source)
    parted = matcher.needed(source, "Reshape")
    layer, x = linear(matcher, parted.inputs[0])
    if x != entry or turned != permutation:
        matcher.refuse(source, "queries, keys or values of the layer's input, by heads")
    size = last_size(matcher, parted.inputs[1])
    if size < 1 or layer.outputs % size:
        matcher.refuse(source, "vectors parted into heads")
    # A factor after a rounding moves to the end, with what is rounded after it.
    steps += more
    grids, inner = in_final_units(steps)
    if len(grids) > 1 or (grids and (layer.rounding or factor.quantized is None)):
        matcher.refuse(
            source, "queries, keys or values that are rounded once before their product", settings.ATTENTION
        )
    if grids:
        layer = replace(layer, rounding=replace(grids[0], scale=grids[0].scale / inner))
    found = factor.quantized
    if found is not None and inner != 1:
        if not inner > 0:
            matcher.refuse(source, "queries, keys or values times a positive number")
        grid = replace(found.grid, scale=found.grid.scale / inner)
        found = replace(found, grid=grid, read_scale=found.read_scale / inner)
    return _Heads(layer, found, size, factor.scale * inner)
