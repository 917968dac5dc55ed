"""Recognizes the encoder that a graph computes: BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT and similar models.

The graph is followed from its output to its inputs, and every node must be the one that these models have there. Names
are not used: exporters invent them, and equal weights share one. Other graphs are refused with the reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.activations import activation
from deepsparse.native.attention import attention
from deepsparse.native.embeddings import TYPES, WORDS, embeddings
from deepsparse.native.encoder import AnyLinear, Encoder, FloatLinear, Grid, Head, Layer, Roundings, check
from deepsparse.native.linear import added_linear, is_sum_with_product, linear
from deepsparse.native.masks import MASK
from deepsparse.native.matching import Matcher
from deepsparse.native.norms import find_norm, norm
from deepsparse.native.onnx_graph import Graph
from deepsparse.native.quantized import rounded
from deepsparse.native.rewriting import rewritten

MOST_LAYERS: Final = 128
MOST_HEADS: Final = 4
"""Linear layers of the classification head."""


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
    logits, columns = _logits(matcher, [port.name for port in graph.outputs])
    head, hidden, every_token = _head(matcher, logits)
    if columns is not None and (not every_token or head[-1].linear.outputs != len(columns)):
        matcher.refuse(logits, "as many logits of every token as there are outputs")
    layers: list[Layer] = []
    while _is_layer(matcher, hidden):
        if len(layers) == MOST_LAYERS:
            raise UnsupportedError(f"it has more than {MOST_LAYERS} layers")
        layer, hidden = _layer(matcher, hidden)
        layers.insert(0, layer)
    if not layers:
        matcher.refuse(hidden, "an encoder layer's normalization")
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
        tuple(layers),
        tuple(head),
        every_token,
        columns,
        found.sums,
        found.added_last,
    )
    check(encoder)
    return encoder


def _logits(matcher: Matcher, outputs: list[str]) -> tuple[str, tuple[int, ...] | None]:
    """The value whose columns the graph gives, and, where each output is one of them, which."""
    if len(outputs) == 1:
        return outputs[0], None
    columns: list[int] = []
    sources: set[str] = set()
    for name in outputs:
        squeezed = matcher.needed(name, "Squeeze")
        split = matcher.needed(squeezed.inputs[0], "Split")
        axis = matcher.scalar(squeezed.inputs[1]) if len(squeezed.inputs) > 1 else None
        if axis not in (-1, 2) or split.attributes.get("axis", 0) not in (-1, 2):
            matcher.refuse(name, "a column of the logits of every token")
        columns.append(split.outputs.index(squeezed.inputs[0]))
        sources.add(split.inputs[0])
    if len(sources) != 1 or sorted(columns) != list(range(len(outputs))):
        raise UnsupportedError(f"its {len(outputs)} outputs are not the columns of one array")
    return sources.pop(), tuple(columns)


def _head(matcher: Matcher, logits: str) -> tuple[list[Head], str, bool]:
    """The linear layers of the head, the encoder's output, and whether the head is applied to every token of it."""
    head: list[Head] = []
    value = logits
    for _ in range(MOST_HEADS):
        if find_norm(matcher, value) is not None:
            raise UnsupportedError(
                f"what its head reads, {value!r}, is normalized once more: layers that normalize their inputs, not "
                "their outputs, are not run"
            )
        kind, before = activation(matcher, value)
        layer, value = linear(matcher, before)
        head.insert(0, Head(layer, kind))
        first = matcher.producer(value, "Gather")
        if first is not None:
            if first.attributes.get("axis", 0) != 1 or matcher.scalar(first.inputs[1]) != 0:
                matcher.refuse(value, "the choice of each text's first token")
            grid, hidden = rounded(matcher, first.inputs[0])
            head[0] = replace(head[0], linear=_reading(matcher, head[0].linear, grid, value))
            return head, hidden, False
        if _is_layer(matcher, value):
            return head, value, True
    raise UnsupportedError(f"its head has more than {MOST_HEADS} linear layers")


def _reading(matcher: Matcher, layer: AnyLinear, grid: Grid | None, value: str) -> AnyLinear:
    """The layer, where what it reads was rounded to a grid before."""
    if grid is None or grid == layer.grid:
        return layer
    if layer.grid is not None or not isinstance(layer, FloatLinear):
        matcher.refuse(value, "hidden states that are rounded to one grid", settings.INPUTS)
    return replace(layer, grid=grid)


def _is_layer(matcher: Matcher, hidden: str) -> bool:
    """Whether a value is the output of a layer, and not of the embeddings."""
    found = find_norm(matcher, hidden)
    return found is not None and is_sum_with_product(matcher, found[1])


def _layer(matcher: Matcher, hidden: str) -> tuple[Layer, str]:
    """The layer that computes `hidden`, and its input."""
    output_norm, total = norm(matcher, hidden)
    output_sum, total = rounded(matcher, total)
    output, activated, added = added_linear(matcher, total)
    output_residual, middle = rounded(matcher, added)
    kind, before = activation(matcher, activated)
    intermediate, source = linear(matcher, before)
    if source != middle:
        matcher.refuse(source, f"what is added after it, {middle!r}")
    attention_norm, total = norm(matcher, middle)
    attention_sum, total = rounded(matcher, total)
    attention_output, context, added = added_linear(matcher, total)
    attention_residual, entry = rounded(matcher, added)
    found = attention(matcher, context, entry)
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
        Roundings(attention_residual, attention_sum, output_residual, output_sum),
    )
    return layer, entry
