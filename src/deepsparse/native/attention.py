"""Softmax attention in a graph, its products quantized or in float."""

from __future__ import annotations

from dataclasses import dataclass

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import AnyLinear, AttentionGrids
from deepsparse.native.linear import linear
from deepsparse.native.masks import is_mask
from deepsparse.native.matching import Matcher
from deepsparse.native.quantized import Quantized, quantized

_QUERIES, _KEYS = (0, 2, 1, 3), (0, 2, 3, 1)


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
    mixed = matcher.producer(moved.inputs[0], "Reshape")
    product = matcher.needed(moved.inputs[0] if mixed is None else mixed.inputs[0], "MatMul")
    probabilities_name, values_name = product.inputs[:2]
    probabilities = _maybe_quantized(matcher, probabilities_name)
    softmax_name = _without_guard(
        matcher, probabilities_name if probabilities is None else probabilities.source
    )
    softmax = matcher.needed(softmax_name, "Softmax")
    if softmax.attributes.get("axis", -1) not in (-1, 3) or (probabilities and probabilities.permutation):
        matcher.refuse(softmax_name, "a softmax of the last axis")
    (queries_name, keys_name), factor = _scores(matcher, softmax.inputs[0])
    query = _heads(matcher, queries_name, _QUERIES, entry)
    key = _heads(matcher, keys_name, _KEYS, entry)
    value = _heads(matcher, values_name, _QUERIES, entry)
    if not query.size == key.size == value.size or value.factor != 1:
        raise UnsupportedError("its queries, keys and values do not fit each other")
    factor *= query.factor * key.factor
    heads = query.linear.outputs // query.size
    found = (query.quantized, key.quantized, probabilities, value.quantized)
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


def _maybe_quantized(matcher: Matcher, value: str) -> Quantized | None:
    return quantized(matcher, value) if matcher.producer(value, "DequantizeLinear") is not None else None


def _scores(matcher: Matcher, value: str) -> tuple[list[str], float]:
    """The factors of the product before a masked softmax, and what the scores are multiplied by."""
    terms = matcher.terms(value)
    products = {term: _scaled(matcher, term) for term in terms if not is_mask(matcher, term)}
    products = {
        term: found for term, found in products.items() if matcher.producer(found[0], "MatMul") is not None
    }
    masks = [term for term in terms if term not in products and is_mask(matcher, term)]
    others = [term for term in terms if term not in products and term not in masks]
    if len(products) != 1 or not masks:
        matcher.refuse(value, "attention scores with a mask of all tokens added")
    if others:
        raise UnsupportedError(
            f"its attention adds {others[0]!r} to the scores, as models do whose positions are relative"
        )
    ((inner, factor),) = products.values()
    return matcher.needed(inner, "MatMul").inputs[:2], factor


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


def _heads(matcher: Matcher, value: str, permutation: tuple[int, ...], entry: str) -> _Heads:
    """Queries, keys or values, computed from the layer's input and split into heads."""
    name, factor = _scaled(matcher, value)
    found = _maybe_quantized(matcher, name)
    if found is not None:
        source, turned = found.source, found.permutation
    else:
        source, turned = matcher.transposed(name, ())
    source, inner = _scaled(matcher, source)
    parted = matcher.needed(source, "Reshape")
    layer, x = linear(matcher, parted.inputs[0])
    if x != entry or turned != permutation:
        matcher.refuse(value, "queries, keys or values of the layer's input, by heads")
    size = _last_size(matcher, parted.inputs[1])
    if size < 1 or layer.outputs % size:
        matcher.refuse(source, "vectors parted into heads")
    return _Heads(layer, found, size, factor * inner)


def _last_size(matcher: Matcher, shape: str) -> int:
    """The last dimension of a shape that may be partly computed; 0 where it is unknown."""
    joined = matcher.producer(shape, "Concat")
    known = matcher.constant(joined.inputs[-1] if joined is not None else shape)
    return int(known.reshape(-1)[-1]) if known is not None and known.size and known.dtype.kind == "i" else 0
