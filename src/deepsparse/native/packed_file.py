"""Packed models as files for programs without Python: `csrc/packed_file.h` is the layout, `resparse.h` the reader."""

from __future__ import annotations

from ctypes import Structure, c_int32, c_uint32, c_uint64, sizeof
from pathlib import Path
from typing import Final

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import ModelError
from deepsparse.native import library
from deepsparse.native.encoder import Encoder
from deepsparse.native.onnx_graph import Graph, read
from deepsparse.native.packing import build
from deepsparse.native.recognition import recognize
from deepsparse.native.renumbering import renumber
from resparse.arrays import Array
from resparse.files import whole_file

INCLUDE: Final = Path(__file__).parent / "include"
"""The folder of the header."""

_MAGIC: Final = 0x3164656B63617072
_VERSION: Final = 1
_ALIGNMENT: Final = 4096
_ALL_COUNTED: Final = -1
_LONGEST: Final = 1 << 20
"""Tokens of a text where nothing in the model limits them."""


class FileRecord(Structure):
    """`PackedFile`."""

    _fields_ = (
        ("magic", c_uint64),
        ("version", c_uint32),
        ("labels", c_uint32),
        ("padding", c_int32),
        ("offset", c_int32),
        ("takes_types", c_uint32),
        ("longest", c_uint32),
        ("names", c_uint64),
        ("names_size", c_uint64),
        ("model", c_uint64),
        ("model_size", c_uint64),
        ("sums", c_uint64 * 2),
    )


def write(deployment: Deployment, path: Path) -> int:
    """Pack a deployment for this processor and write it, whole or not at all.

    Returns:
        The bytes written.

    Raises:
        EngineError: the native engine was not built, or cannot have the instruction set that is asked for.
        ModelError: the model is damaged, cannot be run by the native engine, or is not of this configuration.
        WriteError: the file cannot be written.
    """
    isa = library.chosen_isa()
    graph = read(deployment.model)
    encoder = recognize(graph)
    names = "".join(f"{name}\0" for name in _names(deployment, graph, encoder)).encode()
    block = build(renumber(encoder), isa, library.multiplies_bfloats(isa))
    numbering = encoder.numbering
    record = FileRecord(
        magic=_MAGIC,
        version=_VERSION,
        labels=encoder.labels,
        padding=_ALL_COUNTED if numbering.padding is None else numbering.padding,
        offset=numbering.offset,
        takes_types=encoder.takes_types,
        longest=_longest(deployment, encoder),
        names=sizeof(FileRecord),
        names_size=len(names),
        model=-(-(sizeof(FileRecord) + len(names)) // _ALIGNMENT) * _ALIGNMENT,
        model_size=block.size,
    )
    body = np.zeros(-(-(record.model + block.size) // 8) * 8 - sizeof(FileRecord), np.uint8)
    body[: len(names)] = np.frombuffer(names, np.uint8)
    body[record.model - sizeof(FileRecord) :][: block.size] = block
    record.sums[:] = _sums(body)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(record))
        file.write(body.data)
    return sizeof(FileRecord) + body.size


def _names(deployment: Deployment, graph: Graph, encoder: Encoder) -> tuple[str, ...]:
    """The name of each logit: a label's, or, where each is an output of its own, that output's."""
    if encoder.columns is not None:
        by_column = {column: value.name for column, value in zip(encoder.columns, graph.outputs, strict=True)}
        return tuple(by_column[column] for column in range(encoder.labels))
    names = deployment.label_names()
    if len(names) != encoder.labels:
        raise ModelError(
            f"{deployment.config_file} names {len(names)} labels, the model has {encoder.labels}: export again."
        )
    return names


def _longest(deployment: Deployment, encoder: Encoder) -> int:
    """The most tokens of a text, by its positions, relative ones too, and by what the configuration says."""
    limits = [_LONGEST]
    stated = deployment.config.get("max_position_embeddings")
    if encoder.positions is not None:
        numbering = encoder.numbering
        limits.append(
            len(encoder.positions.rows) - (numbering.offset + 1 if numbering.padding is not None else 0)
        )
    elif isinstance(stated, int) and stated > 0:
        limits.append(stated)
    if encoder.reach is not None:
        limits.append(encoder.reach)
    return min(limits)


def _sums(body: Array) -> tuple[int, int]:
    """The sum of all 64-bit words, and that of each times its number from 1; modulo 2^64."""
    words = body.view("<u8")
    with np.errstate(over="ignore"):
        weighted = words * np.arange(1, len(words) + 1, dtype=np.uint64)
        return int(words.sum(dtype=np.uint64)), int(weighted.sum(dtype=np.uint64))
