"""The records of a packed model, as `csrc/engine.h` lays them out."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_uint32, c_uint64
from typing import Final

from deepsparse.native.encoder import LAYER_LINEARS, MOST_SCORE_GRIDS

MAGIC: Final = 0x3165766974616E72
VERSION: Final = 7
MOST_HEAD_LINEARS: Final = 4
LAYER_GRIDS: Final = ("query", "key", "probabilities", "value")
ROUNDINGS: Final = ("attention_residual", "attention_sum", "output_residual", "output_sum")


class GridRecord(Structure):
    """`Grid`."""

    _fields_ = (("scale", c_float), ("zero_point", c_int32), ("least", c_int32), ("most", c_int32))


class LinearRecord(Structure):
    """`Linear`."""

    _fields_ = (
        ("weights", c_uint64),
        ("weights_size", c_uint64),
        ("scales", c_uint64),
        ("biases", c_uint64),
        ("offsets", c_uint64),
        ("rows", c_uint32),
        ("columns", c_uint32),
        ("format", c_uint32),
        ("reserved", c_uint32),
        ("input", GridRecord),
        ("output", GridRecord),
        ("product", GridRecord),
    )


class NormRecord(Structure):
    """`Norm`."""

    _fields_ = (("weight", c_uint64), ("bias", c_uint64))


class TableRecord(Structure):
    """`Table`."""

    _fields_ = (("rows", c_uint64), ("count", c_uint32), ("scale", c_float))


class LayerRecord(Structure):
    """`Layer`."""

    _fields_ = (
        *((name, LinearRecord) for name in LAYER_LINEARS),
        *((f"{name}_grid", GridRecord) for name in LAYER_GRIDS),
        ("attention_norm", NormRecord),
        ("output_norm", NormRecord),
        ("gate", LinearRecord),
        ("frequencies", c_uint64),
        ("bias", c_uint64),
        ("reach", c_uint32),
        ("window", c_uint32),
        ("heads", c_uint32),
        ("activation", c_uint32),
        ("score_scale", c_float),
        ("attention", c_uint32),
        ("score_grids", GridRecord * MOST_SCORE_GRIDS),
        ("softmax_grid", GridRecord),
        ("context_grid", GridRecord),
        *((name, GridRecord) for name in ROUNDINGS),
        ("table", c_uint64),
    )


class HeadRecord(Structure):
    """`HeadLinear`."""

    _fields_ = (
        ("linear", LinearRecord),
        ("activation", c_uint32),
        ("reserved", c_uint32),
        ("norm", NormRecord),
        ("table", c_uint64),
    )


class ModelRecord(Structure):
    """`Model`, with which a block begins."""

    _fields_ = (
        ("magic", c_uint64),
        ("version", c_uint32),
        ("isa", c_uint32),
        ("size", c_uint64),
        *((name, c_uint32) for name in ("layers", "hidden", "embedding")),
        *((name, c_uint32) for name in ("labels", "head_linears", "head_tokens")),
        ("epsilon", c_float),
        ("keeps_sums", c_uint32),
        ("added_last", c_uint32),
        ("words", TableRecord),
        ("positions", TableRecord),
        ("types", TableRecord),
        ("first_sum", GridRecord),
        ("embedding_sum", GridRecord),
        ("embedding_norm", NormRecord),
        ("projection", LinearRecord),
        ("head", HeadRecord * MOST_HEAD_LINEARS),
        ("layer_records", c_uint64),
    )
