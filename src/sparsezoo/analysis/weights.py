"""The layers of a .safetensors file; its tensors are mapped, not loaded.

The format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from resparse.json_text import parse_json
from sparsezoo.analysis.layers import Layer
from sparsezoo.common import ZooError

# By the format's names: bits, NumPy's type of the same size, and the bits that are not the sign. A number is zero where
# all of these are 0: of bfloat16 and float8 too, which NumPy does not have.
_TYPES: dict[str, tuple[int, str, int | None]] = {
    "F64": (64, "<u8", (1 << 63) - 1),
    "F32": (32, "<u4", (1 << 31) - 1),
    "F16": (16, "<u2", (1 << 15) - 1),
    "BF16": (16, "<u2", (1 << 15) - 1),
    "F8_E4M3": (8, "u1", (1 << 7) - 1),
    "F8_E5M2": (8, "u1", (1 << 7) - 1),
    **{f"{sign}{bits}": (bits, f"<u{bits // 8}", None) for sign in "IU" for bits in (8, 16, 32, 64)},
    "BOOL": (8, "u1", None),
}
_PIECE = 1 << 22


def layers(path: Path, bits: Mapping[str, int]) -> Iterator[Layer]:
    """The tensors of a file as layers.

    Args:
        bits: by layer, where they are not those of the stored type.

    Raises:
        ZooError: the file is damaged.
    """
    start, header = _header(path)
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in _TYPES:
            raise ZooError(f"{path}: {name} is of the type {entry['dtype']}, which is not known here.")
        shape = tuple(entry["shape"])
        stored, dtype, magnitude = _TYPES[entry["dtype"]]
        offset = start + entry["data_offsets"][0]
        zeros = _zeros(path, offset, prod(shape), dtype, magnitude)
        yield Layer(name, _kind(name, shape), shape, zeros, bits.get(name.removesuffix(".weight"), stored))


def _kind(name: str, shape: tuple[int, ...]) -> str:
    """The kind of layer that a tensor is of, by its name and dimensions."""
    if not name.endswith("weight"):
        return "Bias" if name.endswith("bias") else "Other"
    if len(shape) == 2:
        return "Embedding" if "embed" in name.rsplit(".", 2)[-2] or name.endswith("wte.weight") else "Linear"
    return "Norm" if len(shape) == 1 else "Conv"


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and their descriptions by name."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("its header is longer than the file")
            header = parse_json(file.read(length).decode())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            _check(name, entry)
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZooError(f"{path} is damaged: {error}. Use another copy.") from error
    if 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0) > size:
        raise ZooError(f"{path} is damaged: it was cut short. Use another copy.")
    return 8 + length, header


def _check(name: str, entry: Mapping[str, Any]) -> None:
    """Raise a ValueError, KeyError or TypeError where a tensor's description is none, or its sizes do not agree."""
    start, end = entry["data_offsets"]
    numbers = [start, end, *entry["shape"]]
    if not isinstance(entry["dtype"], str) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise ValueError(f"{name} has no type, shape and place")
    known = _TYPES.get(entry["dtype"])
    if known is not None and 8 * (end - start) != known[0] * prod(entry["shape"]):
        raise ValueError(f"{name} has {end - start} bytes for the shape {entry['shape']}")


def _zeros(path: Path, offset: int, count: int, dtype: str, magnitude: int | None) -> int:
    """The number of zeros among `count` values, a piece at a time."""
    if count == 0:
        return 0
    values = np.memmap(path, dtype=np.dtype(dtype), mode="r", offset=offset, shape=(count,))
    total = 0
    for start in range(0, count, _PIECE):
        piece = values[start : start + _PIECE]
        bits = piece if magnitude is None else piece & piece.dtype.type(magnitude)
        total += len(piece) - int(np.count_nonzero(bits))
    return total
