"""Renumbers the units of an encoder, so that rows with similar numbers of non-zeros are packed in one panel.

The kernels process a panel of sixteen rows at a time, for as long as its fullest row needs. In pruned models some units
keep many weights and others almost none, and a hidden unit that has few in one layer has few in most. The linear layers
that compute a unit and those that read it are permuted alike, so the function stays the same and nothing has to be
permuted at run time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from deepsparse.native.encoder import Affine, AnyLinear, Encoder, Layer, Linear, Norm, Table
from deepsparse.native.library import PANEL_ROWS
from resparse.arrays import Array

Kind = TypeVar("Kind", bound=Affine)


def renumber(encoder: Encoder) -> Encoder:
    """Renumber hidden units, intermediate units, and the dimensions of queries, keys and values within each head."""
    layers = encoder.layers
    computed = np.sum([_per_row(one.attention_output) + _per_row(one.output) for one in layers], axis=0)
    readers = [one for layer in layers for one in _readers(layer)]
    read = np.sum([_per_column(linear) for linear in readers], axis=0)
    hidden = _panels(computed, read)
    first, *others = encoder.head
    return replace(
        _embedded(encoder, hidden),
        layers=tuple(_layer(layer, hidden) for layer in encoder.layers),
        head=(replace(first, linear=_inputs(first.linear, hidden)), *others),
    )


def _readers(layer: Layer) -> list[AnyLinear]:
    """The linear layers that read hidden units."""
    gates = [] if layer.gate is None else [layer.gate]
    return [layer.query, layer.key, layer.value, layer.intermediate, *gates]


def _embedded(encoder: Encoder, hidden: Array) -> Encoder:
    if encoder.projection is not None:
        return replace(encoder, projection=_outputs(encoder.projection, hidden))
    return replace(
        encoder,
        words=_table(encoder.words, hidden),
        positions=None if encoder.positions is None else _table(encoder.positions, hidden),
        types=None if encoder.types is None else _table(encoder.types, hidden),
        embedding_norm=_norm(encoder.embedding_norm, hidden),
    )


def _layer(layer: Layer, hidden: Array) -> Layer:
    # Scores are sums over the dimensions of a head, so queries and keys need the same order.
    scored = _within_heads(_per_row(layer.query) + _per_row(layer.key), layer.heads)
    if layer.frequencies is not None:
        # Rotary positions pair the dimensions of a head by their order.
        scored = np.arange(layer.query.outputs)
    mixed = _within_heads(_per_row(layer.value), layer.heads)
    computed = [_per_row(one) for one in (layer.intermediate, layer.gate) if one is not None]
    wide = _panels(np.sum(computed, axis=0), _per_column(layer.output))
    return replace(
        layer,
        query=_outputs(_inputs(layer.query, hidden), scored),
        key=_outputs(_inputs(layer.key, hidden), scored),
        value=_outputs(_inputs(layer.value, hidden), mixed),
        attention_output=_outputs(_inputs(layer.attention_output, mixed), hidden),
        intermediate=_outputs(_inputs(layer.intermediate, hidden), wide),
        gate=None if layer.gate is None else _outputs(_inputs(layer.gate, hidden), wide),
        output=_outputs(_inputs(layer.output, wide), hidden),
        attention_norm=_norm(layer.attention_norm, hidden),
        output_norm=_norm(layer.output_norm, hidden),
    )


def _per_row(linear: AnyLinear) -> Array:
    """Non-zeros of each row."""
    count: Array = np.count_nonzero(linear.weights, axis=1)
    return count


def _per_column(linear: AnyLinear) -> Array:
    """Non-zeros of each column."""
    count: Array = np.count_nonzero(linear.weights, axis=0)
    return count


def _panels(per_row: Array, per_column: Array) -> Array:
    """An order of units: panels of units with similar numbers of non-zeros, full and sparse ones alternating.

    Args:
        per_row: non-zeros of the rows that compute the units.
        per_column: non-zeros of the columns that read them. Matrices are packed from the left, which works best where
            non-zeros are spread evenly over the columns.
    """
    order = np.argsort(per_row, kind="stable")
    whole = len(order) // PANEL_ROWS * PANEL_ROWS
    panels = order[:whole].reshape(-1, PANEL_ROWS)
    ranks = np.argsort(per_column[panels].sum(axis=1), kind="stable")
    few, many = ranks[: (len(ranks) + 1) // 2], ranks[len(ranks) // 2 :][::-1]
    dealt = np.stack([few, many], axis=1).reshape(-1)[: len(ranks)]
    return np.concatenate([panels[dealt].reshape(-1), order[whole:]])


def _within_heads(per_row: Array, heads: int) -> Array:
    by_head = per_row.reshape(heads, -1)
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
