"""The records of a packed model, as `csrc/engine.h` lays them out."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_uint32, c_uint64
from typing import Final

MAGIC: Final = 0x3165766974616E72
VERSION: Final = 3
MOST_HEAD_LINEARS: Final = 4
ALIGNMENT: Final = 64
"""Arrays lie at multiples of so many bytes."""


class GridRecord(Structure):
    """`Grid`."""

    _fields_ = (("scale", c_float), ("zero_point", c_int32))


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
        ("form", c_uint32),
        ("reserved", c_uint32),
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
        *(
            (name, LinearRecord)
            for name in ("query", "key", "value", "attention_output", "intermediate", "output")
        ),
        *(
            (name, GridRecord)
            for name in (
                "input",
                "query_grid",
                "key_grid",
                "probabilities_grid",
                "value_grid",
                "attention_output_input",
                "intermediate_input",
                "output_input",
            )
        ),
        ("attention_norm", NormRecord),
        ("output_norm", NormRecord),
    )


class HeadRecord(Structure):
    """`HeadLinear`."""

    _fields_ = (
        ("linear", LinearRecord),
        ("input", GridRecord),
        ("activation", c_uint32),
        ("reserved", c_uint32),
    )


class ModelRecord(Structure):
    """`Model`, with which a block begins."""

    _fields_ = (
        ("magic", c_uint64),
        ("version", c_uint32),
        ("isa", c_uint32),
        ("size", c_uint64),
        *(
            (name, c_uint32)
            for name in (
                "layers",
                "hidden",
                "intermediate",
                "heads",
                "embedding",
                "labels",
                "activation",
                "head_linears",
            )
        ),
        ("epsilon", c_float),
        ("score_scale", c_float),
        ("words", TableRecord),
        ("positions", TableRecord),
        ("types", TableRecord),
        ("embedding_norm", NormRecord),
        ("projection", LinearRecord),
        ("projection_input", GridRecord),
        ("head", HeadRecord * MOST_HEAD_LINEARS),
        ("layer_records", c_uint64),
    )
