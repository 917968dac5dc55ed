"""Whether the parts of an encoder fit each other, and the engine: its kernels trust the sizes that they are given."""

from __future__ import annotations

import math
from typing import Final

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import Encoder, FloatLinear, Layer, Linear

_LARGEST: Final = 2**16
"""Rows or columns of a matrix."""


def check(encoder: Encoder) -> None:
    """Check all sizes, and that the layers are alike.

    Raises:
        UnsupportedError: something does not fit.
    """
    _check_layers(encoder)
    if any(max(linear.weights.shape) > _LARGEST for linear in linears(encoder)):
        raise UnsupportedError(f"a matrix of it has more than {_LARGEST:,} rows or columns")
    width, hidden = encoder.words.rows.shape[1], encoder.hidden
    projected = width if encoder.projection is None else encoder.projection.outputs
    fits = encoder.embedding_norm.weight.size == width and projected == hidden
    if encoder.projection is not None:
        fits = fits and encoder.projection.inputs == width
    before = hidden
    for head in encoder.head:
        fits = fits and head.linear.inputs == before
        before = head.linear.outputs
    if not fits or not encoder.words.rows.size or not encoder.positions.rows.size:
        raise UnsupportedError("the sizes of its embeddings, layers and head do not fit each other")


def linears(encoder: Encoder) -> list[Linear | FloatLinear]:
    """All linear layers, in the order of the computation."""
    found: list[Linear | FloatLinear] = [] if encoder.projection is None else [encoder.projection]
    for layer in encoder.layers:
        found += [
            layer.query,
            layer.key,
            layer.value,
            layer.attention_output,
            layer.intermediate,
            layer.output,
        ]
    return found + [head.linear for head in encoder.head]


def _check_layers(encoder: Encoder) -> None:
    hidden, first = encoder.hidden, encoder.layers[0]
    if hidden % (4 * first.heads):
        raise UnsupportedError(f"its heads are {hidden / first.heads:g} wide, which is no multiple of 4")
    epsilons = {encoder.embedding_norm.epsilon}
    for layer in encoder.layers:
        _check_layer(layer, hidden)
        epsilons |= {layer.attention_norm.epsilon, layer.output_norm.epsilon}
        if (layer.heads, layer.intermediate.outputs, layer.activation) != (
            first.heads,
            first.intermediate.outputs,
            first.activation,
        ):
            raise UnsupportedError("its layers differ in size or activation function")
        if not math.isclose(layer.score_scale, (first.heads / hidden) ** 0.5, rel_tol=1e-5):
            raise UnsupportedError(f"its attention scores are multiplied by {layer.score_scale:.6g}")
    if len(epsilons) > 1:
        raise UnsupportedError("its normalizations have several epsilons")


def _check_layer(layer: Layer, hidden: int) -> None:
    wide = layer.intermediate.outputs
    shapes = {
        (hidden, hidden): (layer.query, layer.key, layer.value, layer.attention_output),
        (wide, hidden): (layer.intermediate,),
        (hidden, wide): (layer.output,),
    }
    fits = all(one.weights.shape == shape for shape, members in shapes.items() for one in members)
    fits = fits and layer.attention_norm.weight.size == layer.output_norm.weight.size == hidden
    if not fits or not layer.query.grid == layer.key.grid == layer.value.grid:
        raise UnsupportedError("the parts of its layers do not fit each other")
