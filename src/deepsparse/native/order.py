"""An encoder with its units in another order: the same function, but rows with as many non-zeros stand together.

The kernels take sixteen rows at a time, for as long as the fullest of them needs. In pruned models some units keep
many weights and others next to none; and a hidden unit that has few in one layer mostly has few in all. What makes a
unit and what takes it are renumbered alike, here, so that nothing is left to do when the model runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

import numpy as np

from deepsparse.native.encoder import Affine, Encoder, Layer, Linear, Norm, Table
from resparse.arrays import Array

Kind = TypeVar("Kind", bound=Affine)

_GROUP: Final = 16
"""Rows that are worked on together."""


def ordered(encoder: Encoder) -> Encoder:
    """Renumber hidden units, intermediate units, and within each head the parts of queries, keys and values."""
    layers = encoder.layers
    written = np.sum([_kept(one.attention_output) + _kept(one.output) for one in layers], axis=0)
    readers = [one for layer in layers for one in (layer.query, layer.key, layer.value, layer.intermediate)]
    read = np.sum([_taken(linear) for linear in readers], axis=0)
    hidden = _in_groups(written, read)
    first, *others = encoder.head
    return replace(
        _embedded(encoder, hidden),
        layers=tuple(_layer(layer, hidden) for layer in encoder.layers),
        head=(replace(first, linear=_inputs(first.linear, hidden)), *others),
    )


def _embedded(encoder: Encoder, hidden: Array) -> Encoder:
    if encoder.projection is not None:
        return replace(encoder, projection=_outputs(encoder.projection, hidden))
    return replace(
        encoder,
        words=_table(encoder.words, hidden),
        positions=_table(encoder.positions, hidden),
        types=None if encoder.types is None else _table(encoder.types, hidden),
        embedding_norm=_norm(encoder.embedding_norm, hidden),
    )


def _layer(layer: Layer, hidden: Array) -> Layer:
    # Scores are sums over the parts of a head, in whichever order, if it is one for queries and keys.
    scored = _within_heads(_kept(layer.query) + _kept(layer.key), layer.heads)
    mixed = _within_heads(_kept(layer.value), layer.heads)
    wide = _in_groups(_kept(layer.intermediate), _taken(layer.output))
    return replace(
        layer,
        query=_outputs(_inputs(layer.query, hidden), scored),
        key=_outputs(_inputs(layer.key, hidden), scored),
        value=_outputs(_inputs(layer.value, hidden), mixed),
        attention_output=_outputs(_inputs(layer.attention_output, mixed), hidden),
        intermediate=_outputs(_inputs(layer.intermediate, hidden), wide),
        output=_outputs(_inputs(layer.output, wide), hidden),
        attention_norm=_norm(layer.attention_norm, hidden),
        output_norm=_norm(layer.output_norm, hidden),
    )


def _kept(linear: Linear) -> Array:
    """Non-zeros of each row."""
    kept: Array = np.count_nonzero(linear.weights, axis=1)
    return kept


def _taken(linear: Linear) -> Array:
    """Non-zeros of each column."""
    taken: Array = np.count_nonzero(linear.weights, axis=0)
    return taken


def _in_groups(kept: Array, taken: Array) -> Array:
    """Units in groups that keep as many; and these so that neighbours are taken as often as any others.

    The second is for the matrices whose columns the units are: their non-zeros are packed from the left, best where
    they come evenly.
    """
    order = np.argsort(kept, kind="stable")
    whole = len(order) // _GROUP * _GROUP
    groups = order[:whole].reshape(-1, _GROUP)
    ranks = np.argsort(taken[groups].sum(axis=1), kind="stable")
    few, many = ranks[: (len(ranks) + 1) // 2], ranks[len(ranks) // 2 :][::-1]
    dealt = np.stack([few, many], axis=1).reshape(-1)[: len(ranks)]
    return np.concatenate([groups[dealt].reshape(-1), order[whole:]])


def _within_heads(kept: Array, heads: int) -> Array:
    by_head = kept.reshape(heads, -1)
    starts = np.arange(heads)[:, None] * by_head.shape[1]
    order: Array = (np.argsort(by_head, axis=1, kind="stable") + starts).reshape(-1)
    return order


def _outputs(linear: Kind, order: Array) -> Kind:
    more = {"scales": linear.scales[order]} if isinstance(linear, Linear) else {}
    return replace(linear, weights=linear.weights[order], biases=linear.biases[order], **more)


def _inputs(linear: Kind, order: Array) -> Kind:
    return replace(linear, weights=np.ascontiguousarray(linear.weights).take(order, axis=1))


def _norm(norm: Norm, order: Array) -> Norm:
    return replace(norm, weight=norm.weight[order], bias=norm.bias[order])


def _table(table: Table, order: Array) -> Table:
    return replace(table, rows=np.ascontiguousarray(table.rows).take(order, axis=1))
