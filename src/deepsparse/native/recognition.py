"""Recognizes the encoder that a graph computes: BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT and similar models.

The graph is followed from its output to its inputs, and every node must be the one that these models have there. Names
are not used: exporters invent them, and equal weights share one. Other graphs are refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import Encoder, Grid, Head, Layer, Linear, Positions, Table, check
from deepsparse.native.matching import Matcher, Quantized, activation
from deepsparse.native.onnx_graph import Graph
from resparse.arrays import Array

WORDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
MOST_LAYERS: Final = 128
MOST_HEADS: Final = 4
"""Linear layers of the classification head."""

_FORBIDDEN: Final = -1e4
_QUERIES, _KEYS = (0, 2, 1, 3), (0, 2, 3, 1)


def recognize(graph: Graph) -> Encoder:
    """The encoder that a graph computes.

    Raises:
        UnsupportedError: the native engine cannot run it; with the reason.
    """
    if any(node.op_type == "MatMulInteger" for node in graph.nodes):
        raise UnsupportedError("it was exported for DeepSparse 1.8; export it without --runtime deepsparse")
    names = {port.name for port in graph.inputs}
    if not {WORDS, MASK} <= names <= {WORDS, MASK, TYPES} or len(graph.outputs) != 1:
        raise UnsupportedError(
            f"it takes {', '.join(sorted(names)) or 'nothing'} and gives {len(graph.outputs)} arrays, where "
            f"{WORDS}, {MASK}, maybe {TYPES}, and one array are wanted"
        )
    matcher = Matcher(graph)
    head, hidden, every_token = _head(matcher, graph.outputs[0].name)
    layers: list[Layer] = []
    while _is_layer(matcher, hidden):
        if len(layers) == MOST_LAYERS:
            raise UnsupportedError(f"it has more than {MOST_LAYERS} layers")
        layer, hidden = _layer(matcher, hidden)
        layers.insert(0, layer)
    if not layers:
        matcher.refuse(hidden, "an encoder layer's normalization")
    projection = None
    if matcher.producer(hidden, "LayerNormalization") is None:
        projection, hidden = matcher.any_linear(hidden)
    norm, total = matcher.norm(hidden)
    found = _embeddings(matcher, total)
    encoder = Encoder(
        found.words,
        found.positions,
        found.types,
        found.numbering,
        found.takes_types,
        norm,
        projection,
        tuple(layers),
        tuple(head),
        every_token,
    )
    check(encoder)
    return encoder


def _head(matcher: Matcher, logits: str) -> tuple[list[Head], str, bool]:
    """The linear layers of the head, the encoder's output, and whether the head is applied to every token of it."""
    head: list[Head] = []
    value = logits
    for _ in range(MOST_HEADS):
        kind, before = activation(matcher, value)
        linear, value = matcher.any_linear(before)
        head.insert(0, Head(linear, kind))
        first = matcher.producer(value, "Gather")
        if first is not None:
            if first.attributes.get("axis", 0) != 1 or matcher.scalar(first.inputs[1]) != 0:
                matcher.refuse(value, "the choice of each text's first token")
            return head, first.inputs[0], False
        if _is_layer(matcher, value):
            return head, value, True
    raise UnsupportedError(f"its head has more than {MOST_HEADS} linear layers")


def _is_layer(matcher: Matcher, hidden: str) -> bool:
    """Whether a value is the output of a layer, and not of the embeddings."""
    node = matcher.producer(hidden, "LayerNormalization")
    return node is not None and any(
        matcher.producer(term, "MatMul", "Gemm", "Attention") is not None
        for term in matcher.terms(node.inputs[0])
    )


def _layer(matcher: Matcher, hidden: str) -> tuple[Layer, str]:
    """The layer that computes `hidden`, and its input."""
    output_norm, total = matcher.norm(hidden)
    output, activated, middle = matcher.added_linear(total)
    kind, before = activation(matcher, activated)
    intermediate, source = matcher.linear(before)
    if source != middle:
        matcher.refuse(source, f"what is added after it, {middle!r}")
    attention_norm, total = matcher.norm(middle)
    attention_output, context, entry = matcher.added_linear(total)
    attention = _attention(matcher, context, entry)
    layer = Layer(
        attention.query.linear,
        attention.key.linear,
        attention.value.linear,
        attention_output,
        intermediate,
        output,
        attention.query.quantized.unsigned(),
        attention.key.quantized.centred(),
        attention.value.quantized.centred(),
        attention.probabilities,
        attention_norm,
        output_norm,
        kind,
        attention.query.linear.outputs // attention.query.size,
        attention.score_scale,
    )
    return layer, entry


@dataclass
class _Heads:
    """Queries, keys or values: their linear layer, their quantization, and the size of a head."""

    linear: Linear
    quantized: Quantized
    size: int


@dataclass
class _Attention:
    query: _Heads
    key: _Heads
    value: _Heads
    probabilities: Grid
    score_scale: float


def _attention(matcher: Matcher, context: str, entry: str) -> _Attention:
    """Softmax attention with quantized products, from the layer's input `entry` to `context`."""
    joined = matcher.needed(context, "Reshape")
    moved = matcher.needed(joined.inputs[0], "Transpose")
    if moved.attributes.get("perm") != list(_QUERIES):
        matcher.refuse(joined.inputs[0], "the heads, moved back")
    probabilities_name, values_name = _factors(matcher, moved.inputs[0])
    probabilities = matcher.quantized(probabilities_name)
    softmax = matcher.needed(probabilities.source, "Softmax")
    if softmax.attributes.get("axis", -1) not in (-1, 3) or probabilities.permutation:
        matcher.refuse(probabilities.source, "a softmax of the last axis")
    (queries_name, keys_name), factor = _scores(matcher, softmax.inputs[0])
    query = _heads(matcher, queries_name, _QUERIES, entry)
    key = _heads(matcher, keys_name, _KEYS, entry)
    value = _heads(matcher, values_name, _QUERIES, entry)
    rescaled = [
        one for one in (probabilities, key.quantized, value.quantized) if one.read_scale != one.grid.scale
    ]
    if rescaled or not query.size == key.size == value.size:
        raise UnsupportedError("its queries, keys and values do not fit each other")
    factor *= query.quantized.read_scale / query.quantized.grid.scale
    return _Attention(query, key, value, probabilities.unsigned(), factor)


def _factors(matcher: Matcher, value: str) -> list[str]:
    """The factors of one of attention's products, which must be quantized."""
    product = matcher.needed(value, "MatMul")
    if any(matcher.producer(name, "DequantizeLinear") is None for name in product.inputs):
        raise UnsupportedError("the products of its attention are not quantized")
    return product.inputs[:2]


def _scores(matcher: Matcher, value: str) -> tuple[list[str], float]:
    """The factors of the product before a masked softmax, and the scale of the scores."""
    masked = matcher.needed(value, "Add")
    masks = [name for name in masked.inputs if _is_mask(matcher, name)]
    scores = [name for name in masked.inputs if name not in masks]
    if len(masks) != 1 or len(scores) != 1:
        matcher.refuse(value, "attention scores with a mask added")
    factor = 1.0
    scaled = matcher.producer(scores[0], "Mul", "Div")
    if scaled is not None:
        number = matcher.scalar(scaled.inputs[1])
        if not number:
            matcher.refuse(scores[0], "scores times a constant")
        factor = number if scaled.op_type == "Mul" else 1 / number
        scores = [scaled.inputs[0]]
    return _factors(matcher, scores[0]), factor


def _is_mask(matcher: Matcher, value: str) -> bool:
    """Whether a value is the additive attention mask: 0 for tokens, a large negative number for padding."""
    product = matcher.producer(value, "Mul")
    if product is None:
        return False
    numbers = [number for number in map(matcher.scalar, product.inputs) if number is not None]
    hidden = [node for node in (matcher.producer(name, "Sub") for name in product.inputs) if node is not None]
    if len(numbers) != 1 or numbers[0] > _FORBIDDEN or len(hidden) != 1:
        return False
    one, seen = hidden[0].inputs[:2]
    return matcher.scalar(one) == 1 and matcher.through(seen) == MASK


def _heads(matcher: Matcher, value: str, permutation: tuple[int, ...], entry: str) -> _Heads:
    """Queries, keys or values, computed from the layer's input and split into heads."""
    found = matcher.quantized(value)
    parted = matcher.needed(found.source, "Reshape")
    linear, source = matcher.linear(parted.inputs[0])
    if source != entry or found.permutation != permutation:
        matcher.refuse(value, "queries, keys or values of the layer's input, by heads")
    size = _last_size(matcher, parted.inputs[1])
    if size < 1 or linear.outputs % size:
        matcher.refuse(found.source, "vectors parted into heads")
    return _Heads(linear, found, size)


def _last_size(matcher: Matcher, shape: str) -> int:
    """The last dimension of a shape that may be partly computed; 0 where it is unknown."""
    joined = matcher.producer(shape, "Concat")
    known = matcher.constant(joined.inputs[-1] if joined is not None else shape)
    return int(known.reshape(-1)[-1]) if known is not None and known.size and known.dtype.kind == "i" else 0


# Embeddings.


@dataclass
class _Embeddings:
    """As in `Encoder`."""

    words: Table
    positions: Table
    types: Table | None
    numbering: Positions
    takes_types: bool


def _embeddings(matcher: Matcher, value: str) -> _Embeddings:
    """The embedding tables whose rows are added up to a value.

    Raises:
        UnsupportedError: something else is added, or a table is missing.
    """
    tables: dict[str, Table] = {}
    numbering = Positions()
    takes_types = False
    for term in matcher.terms(value):
        table, index = _lookup(matcher, term)
        index_name = matcher.through(index)
        if index_name == WORDS:
            kind = "words"
        elif index_name == TYPES or _always_zero(matcher, index_name):
            kind = "token types"
            takes_types = index_name == TYPES
        else:
            kind = "positions"
            numbering = _numbering(matcher, index_name)
        if kind in tables:
            raise UnsupportedError(f"it adds two tables of {kind}")
        tables[kind] = table
    for kind in ("words", "positions"):
        if kind not in tables:
            raise UnsupportedError(f"its embeddings have no table of {kind}")
    if len({table.rows.shape[1] for table in tables.values()}) > 1:
        raise UnsupportedError("its tables of embeddings differ in width")
    return _Embeddings(
        tables["words"], tables["positions"], tables.get("token types"), numbering, takes_types
    )


def _lookup(matcher: Matcher, term: str) -> tuple[Table, str]:
    """An embedding table, and the value that indexes it."""
    read = matcher.producer(term, "DequantizeLinear")
    gather = matcher.needed(read.inputs[0] if read is not None else term, "Gather")
    rows = matcher.constant(gather.inputs[0])
    if rows is None or rows.ndim != 2 or gather.attributes.get("axis", 0) != 0:
        raise UnsupportedError(f"{gather.inputs[0]!r} is no constant table")
    if read is None:
        if rows.dtype != np.float32:
            raise UnsupportedError(f"the table {gather.inputs[0]!r} holds {rows.dtype}")
        return Table(rows, 0.0), gather.inputs[1]
    scale = matcher.scalar(read.inputs[1])
    zero_point = matcher.scalar(read.inputs[2]) if len(read.inputs) > 2 else 0.0
    if scale is None or zero_point is None or not (np.isfinite(scale) and scale > 0):
        raise UnsupportedError(f"the table {gather.inputs[0]!r} has no single scale")
    return _table(rows, scale, zero_point), gather.inputs[1]


def _table(rows: Array, scale: float, zero_point: float) -> Table:
    if rows.dtype == np.int8 and zero_point == 0:
        return Table(rows, scale)
    if rows.dtype not in (np.int8, np.uint8):
        raise UnsupportedError(f"a table holds {rows.dtype}")
    return Table((rows.astype(np.float32) - np.float32(zero_point)) * np.float32(scale), 0.0)


def _always_zero(matcher: Matcher, index_name: str) -> bool:
    """Whether an index is always 0, as for token types that are no input."""
    for _ in range(2):
        node = matcher.producer(index_name, "GatherElements")
        index_name = matcher.through(node.inputs[0]) if node is not None else index_name
    found = matcher.constant(index_name)
    return found is not None and not found.any()


def _numbering(matcher: Matcher, index_name: str) -> Positions:
    """How positions are computed.

    Raises:
        UnsupportedError: in an unknown way.
    """
    sliced = matcher.producer(index_name, "Slice")
    if sliced is not None:
        numbers, start = matcher.constant(sliced.inputs[0]), matcher.scalar(sliced.inputs[1])
        is_range = numbers is not None and np.array_equal(numbers.reshape(-1), np.arange(numbers.size))
        if is_range and start == 0 and matcher.constant(sliced.inputs[2]) is None:
            return Positions()
    shifted = matcher.producer(index_name, "Add")
    offset = 0.0
    if shifted is not None:
        numbers_of = [matcher.scalar(name) for name in shifted.inputs]
        offset = next((number for number in numbers_of if number is not None), 0.0)
        index_name = next(
            (matcher.through(name) for name in shifted.inputs if matcher.constant(name) is None), index_name
        )
    padding = _counted(matcher, index_name)
    if padding is None:
        raise UnsupportedError(f"the positions {index_name!r} are counted in a way of their own")
    return Positions(padding, int(offset))


def _counted(matcher: Matcher, index_name: str) -> int | None:
    """The padding id of `CumSum(ids != padding) * (ids != padding)`; None where a value is computed otherwise."""
    product = matcher.producer(index_name, "Mul")
    if product is None:
        return None
    factors = [matcher.through(name) for name in product.inputs]
    sums = [node for node in (matcher.producer(factor, "CumSum") for factor in factors) if node is not None]
    if len(sums) != 1 or matcher.scalar(sums[0].inputs[1]) != 1:
        return None
    if sums[0].attributes.get("exclusive") or sums[0].attributes.get("reverse"):
        return None
    counted = matcher.through(sums[0].inputs[0])
    differs = matcher.producer(counted, "Not")
    equal = matcher.producer(differs.inputs[0], "Equal") if differs is not None else None
    if counted not in factors or equal is None or WORDS not in equal.inputs:
        return None
    padding = next((matcher.scalar(name) for name in equal.inputs if name != WORDS), None)
    return None if padding is None else int(padding)
