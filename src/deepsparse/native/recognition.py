"""Recognizes the encoder that a graph computes: BERT, RoBERTa, MPNet, ModernBERT and similar models.

The graph is followed from its output to its inputs, and every node must be the one that these models have there. Names
are not used: exporters invent them, and equal weights share one. Other graphs are refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.activations import activation, gated_activation
from deepsparse.native.attention import attention
from deepsparse.native.classification_head import is_layer, recognize_head
from deepsparse.native.columns import columns
from deepsparse.native.embeddings import TYPES, WORDS, Embeddings, embeddings
from deepsparse.native.encoder import (
    AnyActivation,
    AnyLinear,
    Encoder,
    Grid,
    HeadTokens,
    Layer,
    Roundings,
    check,
)
from deepsparse.native.linear import added_linear, linear
from deepsparse.native.masks import MASK, bias_of
from deepsparse.native.matching import Matcher
from deepsparse.native.norms import find_norm, norm
from deepsparse.native.onnx_graph import Graph
from deepsparse.native.quantized import rounded
from deepsparse.native.rewriting import rewritten

MOST_LAYERS: Final = 128
MOST_DISTANCES: Final = 1024
"""Tokens of a text, where scores have a bias for each distance."""


def recognize(graph: Graph) -> Encoder:
    """The encoder that a graph computes.

    Raises:
        UnsupportedError: the native engine cannot run it; with the reason.
    """
    matcher = Matcher(rewritten(graph))
    names = {port.name for port in graph.inputs}
    if not {WORDS, MASK} <= names <= {WORDS, MASK, TYPES}:
        raise UnsupportedError(
            f"it takes {', '.join(sorted(names)) or 'nothing'}, where {WORDS}, {MASK}, and maybe {TYPES} are wanted"
        )
    logits, outputs = _logits(matcher, [port.name for port in graph.outputs])
    head, hidden, head_tokens = recognize_head(matcher, logits)
    if outputs is not None and (head_tokens != HeadTokens.EVERY or head[-1].linear.outputs != len(outputs)):
        matcher.refuse(logits, "as many logits of every token as there are outputs")
    layers, hidden, keeps_sums = _layers(matcher, hidden)
    projection = None
    if find_norm(matcher, hidden) is None:
        projection, hidden = linear(matcher, hidden)
    embedding_norm, total = norm(matcher, hidden)
    found = embeddings(matcher, total)
    encoder = Encoder(
        found.words,
        found.positions,
        found.types,
        found.numbering,
        found.takes_types,
        embedding_norm,
        projection,
        tuple(_with_bias(matcher, *one, found) for one in layers),
        tuple(head),
        head_tokens,
        outputs,
        keeps_sums,
        found.sums,
        found.added_last,
    )
    check(encoder)
    return encoder


def _logits(matcher: Matcher, outputs: list[str]) -> tuple[str, tuple[int, ...] | None]:
    """The value whose columns the graph gives, and, where each output is one of them, which."""
    if len(outputs) == 1:
        return outputs[0], None
    places: list[int] = []
    sources: set[str] = set()
    for name in outputs:
        squeezed = matcher.needed(name, "Squeeze")
        split = matcher.needed(squeezed.inputs[0], "Split")
        axis = matcher.scalar(squeezed.inputs[1]) if len(squeezed.inputs) > 1 else None
        if axis not in (-1, 2) or split.attributes.get("axis", 0) not in (-1, 2):
            matcher.refuse(name, "a column of the logits of every token")
        places.append(split.outputs.index(squeezed.inputs[0]))
        sources.add(split.inputs[0])
    if len(sources) != 1 or sorted(places) != list(range(len(outputs))):
        raise UnsupportedError(f"its {len(outputs)} outputs are not the columns of one array")
    return sources.pop(), tuple(places)


@dataclass(frozen=True)
class _Found:
    """A layer, its input, and what its attention's output is added to: that, or, where sums are kept, one.

    `added` is what is added to its scores, where there is a bias in it.
    """

    layer: Layer
    entry: str
    residual: str
    keeps_sums: bool
    added: tuple[str, ...]


def _layers(matcher: Matcher, hidden: str) -> tuple[list[tuple[Layer, tuple[str, ...]]], str, bool]:
    """All layers, each with what is added to its scores; the first one's input; and whether they keep sums."""
    found: list[_Found] = []
    while is_layer(matcher, hidden):
        if len(found) == MOST_LAYERS:
            raise UnsupportedError(f"it has more than {MOST_LAYERS} layers")
        found.insert(0, _layer(matcher, hidden))
        hidden = found[0].entry
    if not found:
        matcher.refuse(hidden, "an encoder layer's normalization")
    keeps_sums = found[0].keeps_sums
    for before, one in zip([None, *found], found, strict=False):
        # What is added up in a layer begins with the sum of the one before; the first begins with its input.
        wanted = one.entry if before is None or not keeps_sums else norm(matcher, one.entry)[1]
        if one.keeps_sums != keeps_sums or one.residual != wanted:
            matcher.refuse(one.residual, f"the residual of all layers, {wanted!r}")
    return [(one.layer, one.added) for one in found], hidden, keeps_sums


def _layer(matcher: Matcher, hidden: str) -> _Found:
    """The layer that computes `hidden`, with the norm after it, which may be said to be the next layer's."""
    output_norm, total = norm(matcher, hidden)
    output_sum, total = rounded(matcher, total)
    output, activated, added = added_linear(matcher, total)
    kind, intermediate, gate, middle = _intermediate(matcher, activated)
    output_residual, residual = _residual(matcher, added, middle)
    attention_norm, total = norm(matcher, middle)
    keeps_sums = residual == total
    if not keeps_sums and residual != middle:
        matcher.refuse(
            residual, f"what the layer's activation is computed from, {middle!r}, or that before its norm"
        )
    attention_sum, total = rounded(matcher, total)
    attention_output, context, added = added_linear(matcher, total)
    found = attention(matcher, context)
    attention_residual, residual = _residual(matcher, added, found.entry)
    roundings = Roundings(attention_residual, attention_sum, output_residual, output_sum)
    if keeps_sums and roundings != Roundings():
        matcher.refuse(hidden, "sums that are kept, and not rounded", settings.OUTPUTS)
    layer = Layer(
        found.query,
        found.key,
        found.value,
        attention_output,
        intermediate,
        output,
        found.grids,
        attention_norm,
        output_norm,
        kind,
        found.heads,
        found.score_scale,
        gate,
        found.frequencies,
        found.window,
        roundings=roundings,
    )
    return _Found(layer, found.entry, residual, keeps_sums, found.added)


def _residual(matcher: Matcher, added: str, read: str) -> tuple[Grid | None, str]:
    """The grid that a residual is rounded to, where what is `read` beside it is not, and the residual before."""
    return (None, added) if added == read else rounded(matcher, added)


def _intermediate(matcher: Matcher, activated: str) -> tuple[AnyActivation, AnyLinear, AnyLinear | None, str]:
    """The activation function, its linear layer, that of a gate if there is one, and the input of both."""
    gated = gated_activation(matcher, activated)
    if gated is None:
        kind, before = activation(matcher, activated)
        layer, source = linear(matcher, before)
        return kind, layer, None, source
    kind, before, by = gated
    (layer, source), (gate, other) = columns(matcher, before), columns(matcher, by)
    if source != other:
        matcher.refuse(by, f"a gate that is computed from {source!r}, too")
    return kind, layer, gate, source


def _with_bias(matcher: Matcher, layer: Layer, added: tuple[str, ...], found: Embeddings) -> Layer:
    if not added:
        return layer
    reach = MOST_DISTANCES if found.positions is None else min(MOST_DISTANCES, len(found.positions.rows))
    bias = bias_of(matcher, added, reach)
    if bias is None or len(bias) not in (1, layer.heads):
        matcher.refuse(added[0], "a bias of the distance of tokens for every head")
    return replace(layer, bias=bias)
