"""From a graph to the encoder that it computes: BERT, RoBERTa, DistilBERT, ELECTRA and what is built like them.

The graph is followed from its output to its inputs, and every step must be what it is in these models. Names play no
part: equal weights share one, and exporters make up others. What does not fit is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deepsparse.errors import UnsupportedError
from deepsparse.native.activations import activation
from deepsparse.native.checks import check
from deepsparse.native.embeddings import MASK, TYPES, WORDS, embeddings
from deepsparse.native.encoder import Encoder, Grid, Head, Layer, Linear
from deepsparse.native.matching import Matcher, Quantized
from deepsparse.native.onnx_file import Graph

MOST_LAYERS: Final = 128
MOST_HEADS: Final = 4
"""Linear layers of the classification head."""

_FORBIDDEN: Final = -1e4
_QUERIES, _KEYS = (0, 2, 1, 3), (0, 2, 3, 1)


def recognize(graph: Graph) -> Encoder:
    """The encoder that a graph computes.

    Raises:
        UnsupportedError: it is none that the native engine runs; with the reason.
    """
    if any(node.kind == "MatMulInteger" for node in graph.nodes):
        raise UnsupportedError("it was exported for DeepSparse 1.8; export it without --runtime deepsparse")
    names = {port.name for port in graph.inputs}
    if not {WORDS, MASK} <= names <= {WORDS, MASK, TYPES} or len(graph.outputs) != 1:
        raise UnsupportedError(
            f"it takes {', '.join(sorted(names)) or 'nothing'} and gives {len(graph.outputs)} arrays, where "
            f"{WORDS}, {MASK}, maybe {TYPES}, and one array are wanted"
        )
    matcher = Matcher(graph)
    head, hidden = _head(matcher, graph.outputs[0].name)
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
    found = embeddings(matcher, total)
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
    )
    check(encoder)
    return encoder


def _head(matcher: Matcher, logits: str) -> tuple[list[Head], str]:
    """The linear layers from the first token's vector to the logits, and all tokens' vectors."""
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
            return head, first.inputs[0]
    raise UnsupportedError(f"its head has more than {MOST_HEADS} linear layers")


def _is_layer(matcher: Matcher, hidden: str) -> bool:
    """Whether a value is what a layer gives, and not what the embeddings give."""
    node = matcher.producer(hidden, "LayerNormalization")
    return node is not None and any(
        matcher.producer(term, "MatMul", "Gemm", "Attention") is not None
        for term in matcher.terms(node.inputs[0])
    )


def _layer(matcher: Matcher, hidden: str) -> tuple[Layer, str]:
    """The layer that gives `hidden`, and its input."""
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
    """Queries, keys or values: how they are made, their grid, and the size of a head."""

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
    """Softmax attention, both products of integers, that makes `context` from `entry`."""
    joined = matcher.needed(context, "Reshape")
    moved = matcher.needed(joined.inputs[0], "Transpose")
    if moved.attributes.get("perm") != list(_QUERIES):
        matcher.refuse(joined.inputs[0], "the heads, moved back")
    shares_name, values_name = _factors(matcher, moved.inputs[0])
    shares = matcher.quantized(shares_name)
    softmax = matcher.needed(shares.source, "Softmax")
    if softmax.attributes.get("axis", -1) not in (-1, 3) or shares.permutation:
        matcher.refuse(shares.source, "a softmax of the last axis")
    (queries_name, keys_name), factor = _scores(matcher, softmax.inputs[0])
    query = _heads(matcher, queries_name, _QUERIES, entry)
    key = _heads(matcher, keys_name, _KEYS, entry)
    value = _heads(matcher, values_name, _QUERIES, entry)
    rescaled = [one for one in (shares, key.quantized, value.quantized) if one.read_scale != one.grid.scale]
    if rescaled or not query.size == key.size == value.size:
        raise UnsupportedError("its queries, keys and values do not fit each other")
    factor *= query.quantized.read_scale / query.quantized.grid.scale
    return _Attention(query, key, value, shares.unsigned(), factor)


def _factors(matcher: Matcher, value: str) -> list[str]:
    """The two factors of one of attention's products, which must be quantized."""
    product = matcher.needed(value, "MatMul")
    if any(matcher.producer(name, "DequantizeLinear") is None for name in product.inputs):
        raise UnsupportedError("the products of its attention are not quantized")
    return product.inputs[:2]


def _scores(matcher: Matcher, value: str) -> tuple[list[str], float]:
    """The product under a masked softmax, and the factor that its result is multiplied by."""
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
        factor = number if scaled.kind == "Mul" else 1 / number
        scores = [scaled.inputs[0]]
    return _factors(matcher, scores[0]), factor


def _is_mask(matcher: Matcher, value: str) -> bool:
    """Whether a value is 0 for tokens that may be seen, and far below 0 for others."""
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
    """Queries, keys or values, from the layer's input on."""
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
    """The last dimension of a shape that is partly computed; 0 where that is not known."""
    joined = matcher.producer(shape, "Concat")
    known = matcher.constant(joined.inputs[-1] if joined is not None else shape)
    return int(known.reshape(-1)[-1]) if known is not None and known.size and known.dtype.kind == "i" else 0
