"""Softmax attention in a graph, its products quantized or in float."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import AnyLinear, AttentionGrids
from deepsparse.native.linear import IntegerProduct, integer_product, is_zero_point, linear
from deepsparse.native.masks import is_mask
from deepsparse.native.matching import Matcher
from deepsparse.native.quantized import Quantized, integers, quantized

_MOST_FACTORS: Final = 4
"""Constants that a product is multiplied by, one after the other."""

_QUERIES, _KEYS = (0, 2, 1, 3), (0, 2, 3, 1)


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
    probabilities, values = mixed.factors
    softmax_name = _without_guard(matcher, probabilities.source)
    softmax = matcher.needed(softmax_name, "Softmax")
    if softmax.attributes.get("axis", -1) not in (-1, 3) or probabilities.permutation:
        matcher.refuse(softmax_name, "a softmax of the last axis")
    scores = _scores(matcher, softmax.inputs[0])
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
    if not any(found):
        return Attention(query.linear, key.linear, value.linear, None, heads, factor)
    if not all(found):
        raise UnsupportedError("only some factors of its attention's products are quantized")
    of_query, *others = [one for one in found if one is not None]
    if any(one.read_scale != one.grid.scale for one in others):
        raise UnsupportedError("its queries, keys and values do not fit each other")
    factor *= of_query.read_scale / of_query.grid.scale
    of_key, of_probabilities, of_value = others
    grids = AttentionGrids(
        of_query.unsigned(), of_key.centred(), of_probabilities.unsigned(), of_value.centred()
    )
    return Attention(query.linear, key.linear, value.linear, grids, heads, factor)


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


def _scores(matcher: Matcher, value: str) -> _Product:
    """The product before a masked softmax."""
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
    return products[0]


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


def _heads(matcher: Matcher, factor: _Factor, permutation: tuple[int, ...], entry: str) -> _Heads:
    """Queries, keys or values, computed from the layer's input and split into heads."""
    source, inner = _scaled(matcher, factor.source)
    parted = matcher.needed(source, "Reshape")
    layer, x = linear(matcher, parted.inputs[0])
    if x != entry or factor.permutation != permutation:
        matcher.refuse(source, "queries, keys or values of the layer's input, by heads")
    size = _last_size(matcher, parted.inputs[1])
    if size < 1 or layer.outputs % size:
        matcher.refuse(source, "vectors parted into heads")
    return _Heads(layer, factor.quantized, size, factor.scale * inner)


def _last_size(matcher: Matcher, shape: str) -> int:
    """The last dimension of a shape that may be partly computed; 0 where it is unknown."""
    joined = matcher.producer(shape, "Concat")
    known = matcher.constant(joined.inputs[-1] if joined is not None else shape)
    return int(known.reshape(-1)[-1]) if known is not None and known.size and known.dtype.kind == "i" else 0
