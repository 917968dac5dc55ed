"""Packs an encoder into one block of memory, the binary format that `csrc/engine.h` lays out.

Each matrix is packed in the format whose product is measured to be the fastest on this processor.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import sizeof
from typing import Final

import numpy as np

from deepsparse.native import library, timing
from deepsparse.native.encoder import (
    LAYER_LINEARS,
    MOST_SCORE_GRIDS,
    AnyActivation,
    AttentionProducts,
    Encoder,
    FloatLinear,
    Grid,
    Layer,
    Linear,
    Norm,
    Table,
    Tabulated,
    linears,
)
from deepsparse.native.library import InstructionSet, WeightFormat
from deepsparse.native.records import (
    LAYER_GRIDS,
    MAGIC,
    ROUNDINGS,
    VERSION,
    GridRecord,
    HeadRecord,
    LayerRecord,
    LinearRecord,
    ModelRecord,
    NormRecord,
    TableRecord,
)
from resparse.arrays import Array

ALIGNMENT: Final = 64
"""Of arrays in the block, in bytes."""

_NO_WINDOW: Final = 0xFFFFFFFF

_TABLE: Final = 6
"""The number of tabulated activations."""

_MOST_FLOATS: Final = 0.2
"""Share of non-zeros up to which a float matrix is packed sparse: above, the dense product is measured to be faster."""

_MOST_FLOATS_BESIDE_BFLOATS: Final = 0.1
"""The same where the dense product is that of bfloat16."""

_TIMED_ROWS: Final = 256
_TIMED_TOKENS: Final = 32
"""The sample on which formats are measured: enough to tell them apart, small enough for every matrix."""

_ROUNDS: Final = 5

_NEAR_TIE: Final = 1.15
"""Times within this factor are as good as equal."""


def build(encoder: Encoder, isa: InstructionSet, in_bfloats: bool = False) -> Array:
    """Pack an encoder for an instruction set.

    Args:
        encoder: the model.
        isa: that runs it.
        in_bfloats: whether layers in float are packed in bfloat16; not those of the head, and none whose inputs or
            outputs are rounded, which bfloat16 would round again.

    Returns:
        The block, uint8, at an address that is a multiple of 64.
    """
    everything = linears(encoder)
    quantized = [linear for linear in everything if isinstance(linear, Linear)]
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1), "packing") as threads:
        weights = list(threads.map(_plain, quantized))
        # Not in parallel, which would disturb the measurements.
        formats = fastest(isa, weights)
        packed = list(threads.map(_packed, formats, weights))
    block = _Block(sizeof(ModelRecord))
    records = {
        id(linear): block.linear(linear, weight_format, array)
        for linear, weight_format, array in zip(quantized, formats, packed, strict=True)
    }
    in_layers = {id(linear) for layer in encoder.layers for linear in layer.linears}
    for linear in everything:
        if isinstance(linear, FloatLinear):
            records[id(linear)] = block.any_float_linear(linear, id(linear) in in_layers, in_bfloats)
    model = _model(encoder, isa, block, records)
    model.size = block.size
    return block.written(model)


def fastest(isa: InstructionSet, matrices: Sequence[Array]) -> list[WeightFormat]:
    """The format in which the product with each matrix, int8 [outputs, inputs], is measured to be the fastest.

    Formats take turns, in several rounds over all matrices, and each counts by its least time: what disturbs the
    machine for a moment disturbs some rounds only, and all formats alike. Near ties, which noise would decide, go to
    the format that takes the least memory.
    """
    candidates = [
        [timing.PackedMatrix(one, _packed(one, sample), *sample.shape) for one in isa.formats]
        for sample in (np.ascontiguousarray(matrix[:_TIMED_ROWS]) for matrix in matrices)
    ]
    least = [[math.inf] * len(isa.formats) for _ in matrices]
    for _ in range(_ROUNDS):
        for times, ones in zip(least, candidates, strict=True):
            for place, one in enumerate(ones):
                times[place] = min(times[place], timing.seconds(isa, [one], _TIMED_TOKENS))
    return [_smallest_of_nearly_fastest(*one) for one in zip(candidates, least, strict=True)]


def _smallest_of_nearly_fastest(
    candidates: Sequence[timing.PackedMatrix], seconds: Sequence[float]
) -> WeightFormat:
    nearly = _NEAR_TIE * min(seconds)
    fast = [one for one, taken in zip(candidates, seconds, strict=True) if taken <= nearly]
    return min(fast, key=lambda one: one.data.size).format


class _Block:
    """Arrays and their offsets in the block."""

    def __init__(self, start: int) -> None:
        self.size = _round_up(start)
        self._arrays: list[tuple[int, Array]] = []
        self._shared: dict[bytes, int] = {}

    def put(self, array: Array) -> int:
        """Append an array; returns its offset."""
        offset = self.size
        self._arrays.append((offset, np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        self.size += _round_up(array.nbytes)
        return offset

    def linear(self, linear: Linear, weight_format: WeightFormat, packed: Array) -> LinearRecord:
        """A packed matrix, with scales, biases, and offsets that correct the zero point of its inputs."""
        scales = linear.scales if linear.grid is None else np.float32(linear.grid.scale) * linear.scales
        zero_point = 0 if linear.grid is None else linear.grid.zero_point
        offsets = -zero_point * library.row_sums(packed, linear.outputs)
        return LinearRecord(
            weights=self.put(packed),
            weights_size=packed.size,
            scales=self.put(_padded(scales, np.float32)),
            biases=self.put(_padded(linear.biases, np.float32)),
            offsets=self.put(offsets),
            rows=linear.outputs,
            columns=linear.inputs,
            format=weight_format,
            input=_grid(linear.grid),
            output=_grid(linear.rounding),
            product=_grid(linear.product_rounding),
        )

    def any_float_linear(self, linear: FloatLinear, is_in_layer: bool, in_bfloats: bool) -> LinearRecord:
        """A matrix in the format of floats that is fastest."""
        is_plain = linear.grid is linear.rounding is linear.product_rounding is None
        short = in_bfloats and is_in_layer and is_plain
        if is_in_layer and _share(linear) <= (_MOST_FLOATS_BESIDE_BFLOATS if short else _MOST_FLOATS):
            return self.sparse_linear(linear)
        return self.bfloat_linear(linear) if short else self.float_linear(linear)

    def bfloat_linear(self, linear: FloatLinear) -> LinearRecord:
        """A matrix in `WeightFormat.BFLOAT16`: [panels][pairs of columns][rows of a panel][2]."""
        padded = _padded(linear.weights, np.float32)
        if linear.inputs % 2:
            padded = np.concatenate([padded, np.zeros((len(padded), 1), np.float32)], axis=1)
        pairs = _bfloats(padded).reshape(-1, library.PANEL_ROWS, padded.shape[1] // 2, 2)
        return self._float_record(
            linear, np.ascontiguousarray(pairs.transpose(0, 2, 1, 3)), WeightFormat.BFLOAT16
        )

    def float_linear(self, linear: FloatLinear) -> LinearRecord:
        """A matrix in `WeightFormat.FLOAT`: [panels][columns][rows of a panel]."""
        panels = _padded(linear.weights, np.float32).reshape(-1, library.PANEL_ROWS, linear.inputs)
        weights = panels.transpose(0, 2, 1)
        return self._float_record(linear, weights, WeightFormat.FLOAT)

    def sparse_linear(self, linear: FloatLinear) -> LinearRecord:
        """A matrix in `WeightFormat.SPARSE_FLOAT`: where each row's non-zeros begin; their columns and values."""
        rows, columns = np.nonzero(linear.weights)
        starts = np.zeros(library.padded(linear.outputs) + 1, np.uint32)
        np.cumsum(np.bincount(rows, minlength=len(starts) - 1), out=starts[1:])
        non_zeros = np.empty(len(rows), [("column", np.uint32), ("weight", np.float32)])
        non_zeros["column"], non_zeros["weight"] = columns, linear.weights[rows, columns]
        whole = np.zeros(_round_up(starts.nbytes) + non_zeros.nbytes, np.uint8)
        whole[: starts.nbytes] = starts.view(np.uint8)
        whole[_round_up(starts.nbytes) :] = non_zeros.view(np.uint8)
        return self._float_record(linear, whole, WeightFormat.SPARSE_FLOAT)

    def _float_record(self, linear: FloatLinear, weights: Array, format: WeightFormat) -> LinearRecord:
        return LinearRecord(
            weights=self.put(weights),
            weights_size=weights.nbytes,
            biases=self.put(_padded(linear.biases, np.float32)),
            rows=linear.outputs,
            columns=linear.inputs,
            format=format,
            input=_grid(linear.grid),
            output=_grid(linear.rounding),
            product=_grid(linear.product_rounding),
        )

    def activation(self, activation: AnyActivation) -> dict[str, int]:
        """The fields of an activation function."""
        if isinstance(activation, Tabulated):
            return {"activation": _TABLE, "table": self.put(activation.values)}
        return {"activation": activation}

    def norm(self, norm: Norm) -> NormRecord:
        """A layer normalization."""
        return NormRecord(weight=self.put(norm.weight), bias=self.put(norm.bias))

    def shared(self, array: Array) -> int:
        """As `put`, once for all layers that have the same numbers."""
        key = array.tobytes()
        if key not in self._shared:
            self._shared[key] = self.put(array)
        return self._shared[key]

    def bias(self, layer: Layer) -> int:
        """Biases of distances, by heads, with room to read a vector from any place, as `bias_stride` lays them out."""
        if layer.bias is None:
            return 0
        count = layer.bias.shape[1]
        padded = np.zeros((layer.heads, _round_up(4 * (count + library.PANEL_ROWS)) // 4), np.float32)
        padded[:, :count] = layer.bias
        return self.shared(padded)

    def table(self, table: Table | None) -> TableRecord:
        """An embedding table, or none."""
        if table is None:
            return TableRecord()
        return TableRecord(rows=self.put(table.rows), count=len(table.rows), scale=table.scale)

    def written(self, model: ModelRecord) -> Array:
        """The block."""
        memory = library.aligned(self.size)
        memory[: sizeof(model)] = np.frombuffer(bytes(model), np.uint8)
        for offset, array in self._arrays:
            memory[offset : offset + array.size] = array
        return memory


def _model(
    encoder: Encoder, isa: InstructionSet, block: _Block, records: dict[int, LinearRecord]
) -> ModelRecord:
    model = ModelRecord(
        magic=MAGIC,
        version=VERSION,
        isa=isa.isa,
        layers=len(encoder.layers),
        hidden=encoder.hidden,
        embedding=encoder.words.rows.shape[1],
        labels=encoder.labels,
        head_linears=len(encoder.head),
        head_tokens=encoder.head_tokens,
        epsilon=encoder.embedding_norm.epsilon,
        keeps_sums=encoder.keeps_sums,
        added_last=encoder.added_last,
        words=block.table(encoder.words),
        positions=block.table(encoder.positions),
        types=block.table(encoder.types),
        first_sum=_grid(encoder.sums[0]),
        embedding_sum=_grid(encoder.sums[1]),
        embedding_norm=block.norm(encoder.embedding_norm),
    )
    if encoder.projection is not None:
        model.projection = records[id(encoder.projection)]
    for index, head in enumerate(encoder.head):
        model.head[index] = HeadRecord(linear=records[id(head.linear)], **block.activation(head.activation))
        if head.norm is not None:
            model.head[index].norm = block.norm(head.norm)
    layers = (LayerRecord * len(encoder.layers))(*(_layer(layer, block, records) for layer in encoder.layers))
    model.layer_records = block.put(np.frombuffer(bytes(layers), np.uint8))
    return model


def _layer(layer: Layer, block: _Block, records: dict[int, LinearRecord]) -> LayerRecord:
    scores = getattr(layer.grids, "scores", ())
    return LayerRecord(
        **{name: records[id(getattr(layer, name))] for name in LAYER_LINEARS},
        **{f"{name}_grid": _grid(getattr(layer.grids, name, None)) for name in LAYER_GRIDS},
        attention_norm=block.norm(layer.attention_norm),
        output_norm=block.norm(layer.output_norm),
        gate=LinearRecord() if layer.gate is None else records[id(layer.gate)],
        frequencies=0 if layer.frequencies is None else block.shared(layer.frequencies),
        bias=block.bias(layer),
        reach=0 if layer.bias is None else (layer.bias.shape[1] + 1) // 2,
        window=_NO_WINDOW if layer.window is None else layer.window,
        heads=layer.heads,
        **block.activation(layer.activation),
        score_scale=layer.score_scale,
        attention=AttentionProducts.IN_FLOAT if layer.grids is None else layer.grids.products,
        score_grids=(GridRecord * MOST_SCORE_GRIDS)(*map(_grid, scores)),
        softmax_grid=_grid(getattr(layer.grids, "softmax", None)),
        context_grid=_grid(getattr(layer.grids, "context", None)),
        **{name: _grid(getattr(layer.roundings, name)) for name in ROUNDINGS},
    )


def _bfloats(values: Array) -> Array:
    """As bfloat16, uint16: the upper half of float32, rounded half to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _plain(linear: Linear) -> Array:
    return np.ascontiguousarray(linear.weights)


def _packed(weight_format: WeightFormat, weights: Array) -> Array:
    packed = library.aligned(library.packed_size(weight_format, weights))
    library.pack(weight_format, weights, packed)
    return packed


def _share(linear: FloatLinear) -> float:
    """The share of non-zeros."""
    return float(np.count_nonzero(linear.weights) / linear.weights.size)


def _grid(grid: Grid | None) -> GridRecord:
    return GridRecord() if grid is None else GridRecord(grid.scale, grid.zero_point, grid.least, grid.most)


def _padded(values: Array, dtype: type) -> Array:
    whole: Array = np.zeros((library.padded(len(values)), *values.shape[1:]), dtype)
    whole[: len(values)] = values
    return whole


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
