"""An encoder as the one block of memory that the library reads, its weights in the forms that run fastest here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from ctypes import sizeof
from typing import Final

import numpy as np

from deepsparse.native import library
from deepsparse.native.checks import linears
from deepsparse.native.encoder import Encoder, FloatLinear, Grid, Layer, Linear, Norm, Table
from deepsparse.native.layout import (
    ALIGNMENT,
    MAGIC,
    VERSION,
    GridRecord,
    HeadRecord,
    LayerRecord,
    LinearRecord,
    ModelRecord,
    NormRecord,
    TableRecord,
)
from deepsparse.native.library import FORMS, Form, Isa
from resparse.arrays import Array

_TIMED_ROWS: Final = 256
_TIMED_TOKENS: Final = 32
"""What forms are measured on: enough to tell them apart, little enough to do it for every matrix."""


def build(encoder: Encoder, isa: Isa) -> Array:
    """Pack an encoder for an instruction set.

    Returns:
        The block, uint8, at an address that is a multiple of 64.
    """
    everything = linears(encoder)
    quantized = [linear for linear in everything if isinstance(linear, Linear)]
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1), "packing") as threads:
        weights = list(threads.map(_plain, quantized))
        # One after the other: side by side they would take the time from each other.
        forms = [fastest(isa, matrix) for matrix in weights]
        packed = list(threads.map(_packed, forms, weights))
    block = _Block(sizeof(ModelRecord))
    records = {
        id(linear): block.linear(linear, matrix, form, array)
        for linear, matrix, form, array in zip(quantized, weights, forms, packed, strict=True)
    }
    for linear in everything:
        if isinstance(linear, FloatLinear):
            records[id(linear)] = block.float_linear(linear)
    model = _model(encoder, isa, block, records)
    model.size = block.size
    return block.written(model)


def fastest(isa: Isa, weights: Array) -> Form:
    """The form in which a product with these weights, int8 [outputs, inputs], takes the least time: measured."""
    sample = np.ascontiguousarray(weights[:_TIMED_ROWS])
    rows, columns = sample.shape
    return min(
        FORMS[isa],
        key=lambda form: library.seconds(isa, form, _packed(form, sample), rows, columns, _TIMED_TOKENS),
    )


class _Block:
    """Arrays with the places that they are going to have."""

    def __init__(self, start: int) -> None:
        self.size = _round_up(start)
        self._arrays: list[tuple[int, Array]] = []

    def put(self, array: Array) -> int:
        """Where an array is going to lie."""
        place = self.size
        self._arrays.append((place, np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        self.size += _round_up(array.nbytes)
        return place

    def linear(self, linear: Linear, weights: Array, form: Form, packed: Array) -> LinearRecord:
        """A matrix, with what its sums are finished with."""
        scales = np.float32(linear.grid.scale) * linear.scales
        offsets = -linear.grid.zero_point * weights.sum(axis=1, dtype=np.int32)
        return LinearRecord(
            weights=self.put(packed),
            weights_size=packed.size,
            scales=self.put(_padded(scales, np.float32)),
            biases=self.put(_padded(linear.biases, np.float32)),
            offsets=self.put(_padded(offsets, np.int32)),
            rows=linear.outputs,
            columns=linear.inputs,
            form=form,
        )

    def float_linear(self, linear: FloatLinear) -> LinearRecord:
        """A matrix in `Form.FLOAT`: [groups of rows][columns][rows of a group]."""
        groups = _padded(linear.weights, np.float32).reshape(-1, library.LANES, linear.inputs)
        weights = groups.transpose(0, 2, 1)
        return LinearRecord(
            weights=self.put(weights),
            weights_size=weights.nbytes,
            biases=self.put(_padded(linear.biases, np.float32)),
            rows=linear.outputs,
            columns=linear.inputs,
            form=Form.FLOAT,
        )

    def norm(self, norm: Norm) -> NormRecord:
        """Both arrays of a normalization."""
        return NormRecord(weight=self.put(norm.weight), bias=self.put(norm.bias))

    def table(self, table: Table | None) -> TableRecord:
        """An embedding, or none."""
        if table is None:
            return TableRecord()
        return TableRecord(rows=self.put(table.rows), count=len(table.rows), scale=table.scale)

    def written(self, model: ModelRecord) -> Array:
        """The whole."""
        memory = library.aligned(self.size)
        memory[: sizeof(model)] = np.frombuffer(bytes(model), np.uint8)
        for place, array in self._arrays:
            memory[place : place + array.size] = array
        return memory


def _model(encoder: Encoder, isa: Isa, block: _Block, records: dict[int, LinearRecord]) -> ModelRecord:
    first = encoder.layers[0]
    model = ModelRecord(
        magic=MAGIC,
        version=VERSION,
        isa=isa,
        layers=len(encoder.layers),
        hidden=encoder.hidden,
        intermediate=first.intermediate.outputs,
        heads=first.heads,
        embedding=encoder.words.rows.shape[1],
        labels=encoder.labels,
        activation=first.activation,
        head_linears=len(encoder.head),
        epsilon=encoder.embedding_norm.epsilon,
        score_scale=first.score_scale,
        words=block.table(encoder.words),
        positions=block.table(encoder.positions),
        types=block.table(encoder.types),
        embedding_norm=block.norm(encoder.embedding_norm),
    )
    if encoder.projection is not None:
        model.projection = records[id(encoder.projection)]
        model.projection_input = _input(encoder.projection)
    for index, head in enumerate(encoder.head):
        linear = records[id(head.linear)]
        model.head[index] = HeadRecord(linear=linear, input=_input(head.linear), activation=head.activation)
    layers = (LayerRecord * len(encoder.layers))(*(_layer(layer, block, records) for layer in encoder.layers))
    model.layer_records = block.put(np.frombuffer(bytes(layers), np.uint8))
    return model


def _layer(layer: Layer, block: _Block, records: dict[int, LinearRecord]) -> LayerRecord:
    return LayerRecord(
        query=records[id(layer.query)],
        key=records[id(layer.key)],
        value=records[id(layer.value)],
        attention_output=records[id(layer.attention_output)],
        intermediate=records[id(layer.intermediate)],
        output=records[id(layer.output)],
        input=_grid(layer.query.grid),
        query_grid=_grid(layer.query_grid),
        key_grid=_grid(layer.key_grid),
        probabilities_grid=_grid(layer.probabilities_grid),
        value_grid=_grid(layer.value_grid),
        attention_output_input=_grid(layer.attention_output.grid),
        intermediate_input=_grid(layer.intermediate.grid),
        output_input=_grid(layer.output.grid),
        attention_norm=block.norm(layer.attention_norm),
        output_norm=block.norm(layer.output_norm),
    )


def _plain(linear: Linear) -> Array:
    return np.ascontiguousarray(linear.weights)


def _packed(form: Form, weights: Array) -> Array:
    packed = library.aligned(library.packed_size(form, weights))
    library.pack(form, weights, packed)
    return packed


def _input(linear: Linear | FloatLinear) -> GridRecord:
    """The grid of a linear's input; any where it is used for nothing."""
    return _grid(linear.grid) if isinstance(linear, Linear) else GridRecord(1, 0)


def _grid(grid: Grid) -> GridRecord:
    return GridRecord(grid.scale, grid.zero_point)


def _padded(values: Array, dtype: type) -> Array:
    whole: Array = np.zeros((library.padded(len(values)), *values.shape[1:]), dtype)
    whole[: len(values)] = values
    return whole


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
