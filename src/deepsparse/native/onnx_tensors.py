"""Protocol Buffers' wire format and the tensors in an ONNX file, as NumPy views of the mapped file where possible.

A message is a sequence of numbered fields: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from resparse.arrays import Array

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_LONGEST_VARINT = 10

# Fields of TensorProto that hold values.
_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S = 4, 5, 7, 10, 11
_ITEMS: Final = {_FLOATS: "<f4", _DOUBLES: "<f8"}
_EXTERNAL: Final = 1

# By TensorProto.DataType: the dtype of raw_data, and the field of the values where there is no raw_data.
_TYPES: Final[dict[int, tuple[str, int]]] = {
    1: ("<f4", _FLOATS),
    2: ("u1", _INT32S),
    3: ("i1", _INT32S),
    4: ("<u2", _INT32S),
    5: ("<i2", _INT32S),
    6: ("<i4", _INT32S),
    7: ("<i8", _INT64S),
    9: ("?", _INT32S),
    10: ("<f2", _INT32S),
    11: ("<f8", _DOUBLES),
    12: ("<u4", _UINT64S),
    13: ("<u8", _UINT64S),
    14: ("<c8", _FLOATS),
    15: ("<c16", _DOUBLES),
    16: ("bfloat16", _INT32S),
}


class WireError(ValueError):
    """The bytes are no valid message."""


def fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """The fields of a message: number, wire type, and value (int for varints, else a view of the bytes).

    Raises:
        WireError: the message is truncated or invalid.
    """
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError("a field without a number")
        if kind == VARINT:
            value, position = _varint(message, position)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, position = _varint(message, position)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"a field of the wire type {kind}")
        if size > end - position:
            raise WireError(f"{size} bytes are announced where {end - position} are left")
        yield number, kind, message[position : position + size]
        position += size


def signed(value: int) -> int:
    """A varint as an int64."""
    return value - (1 << 64) if value >= 1 << 63 else value


def as_text(value: int | memoryview) -> str:
    """The value of a string field."""
    try:
        return str(as_bytes(value), "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"a name is no UTF-8: {error}") from error


def as_bytes(value: int | memoryview) -> memoryview:
    """The value of a field of bytes or of a submessage."""
    if isinstance(value, int):
        raise WireError("a number where bytes belong")
    return value


def as_integer(value: int | memoryview) -> int:
    """The value of an integer field."""
    if not isinstance(value, int):
        raise WireError("bytes where a number belongs")
    return signed(value)


def varints(packed: memoryview) -> Array:
    """A packed repeated field of varints, as uint64 [count].

    Raises:
        WireError: the last one is truncated, or one is longer than ten bytes.
    """
    octets = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if octets.size and (not ends.size or ends[-1] != octets.size - 1):
        raise WireError("a number is cut short")
    starts = np.concatenate([np.zeros(min(1, ends.size), np.intp), ends[:-1] + 1])
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > _LONGEST_VARINT:
        raise WireError("a number of more than ten bytes")
    values = np.zeros(ends.size, np.uint64)
    for digit in range(longest):
        having = np.flatnonzero(lengths > digit)
        part = (octets[starts[having] + digit] & 0x7F).astype(np.uint64)
        values[having] |= part << np.uint64(7 * digit)
    return values


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for digit, octet in enumerate(message[position : position + _LONGEST_VARINT]):
        value |= (octet & 0x7F) << 7 * digit
        if octet < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + digit + 1
    raise WireError("a number is cut short or has more than ten bytes")


class ExternalDataError(ValueError):
    """A file of external data is missing, too short, or outside the model's folder."""


@dataclass
class _Message:
    """The fields of a TensorProto."""

    name: str = ""
    shape: list[int] = field(default_factory=list)
    kind: int = 0
    raw: memoryview | None = None
    values: dict[int, list[Array]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    location: int = 0


class TensorReader:
    """Reads tensors; each file of external data is mapped once.

    Attributes:
        folder: of the model; external data must lie in it or below, or be blobs of the same snapshot.
        files: the files of external data that were read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[Path, memoryview] = {}

    def tensor(self, message: memoryview) -> tuple[str, Array | None]:
        """A tensor's name and values; None for types that NumPy does not have (strings, 4-bit integers).

        Raises:
            WireError: the message is damaged, or its values do not fit its shape.
            ExternalDataError: its external data cannot be read.
        """
        tensor = _parse(message)
        if tensor.kind not in _TYPES:
            return tensor.name, None
        kind, values_field = _TYPES[tensor.kind]
        try:
            if tensor.location == _EXTERNAL:
                values = _from_bytes(self._external(tensor.external), kind)
            elif tensor.raw is not None:
                values = _from_bytes(tensor.raw, kind)
            else:
                values = _from_values(tensor.values.get(values_field, []), kind)
            if any(size < 0 for size in tensor.shape) or prod(tensor.shape) != values.size:
                raise WireError(f"{values.size} values for the shape {tensor.shape}")
            return tensor.name, values.reshape(tensor.shape)
        except WireError as error:
            raise WireError(f"the tensor {tensor.name!r}: {error}") from error

    def _external(self, settings: dict[str, str]) -> memoryview:
        name = settings.get("location", "")
        path = (self.folder / name).resolve()
        if not name or not (path.is_relative_to(self.folder.resolve()) or self._is_blob(name, path)):
            raise ExternalDataError(f"its weights are said to lie in {name!r}, which is not beside it")
        if path not in self.files:
            self.files[path] = map_file(path)
        data = self.files[path]
        try:
            start = int(settings.get("offset", "0"))
            size = int(settings.get("length", len(data) - start))
        except ValueError as error:
            raise WireError(f"no number: {error}") from error
        if start < 0 or size < 0 or start + size > len(data):
            raise ExternalDataError(
                f"{name} has {len(data):,} bytes, where {start + size:,} are wanted; was a copy cut short?"
            )
        return data[start : start + size]

    def _is_blob(self, name: str, path: Path) -> bool:
        """Whether `name` lies in a snapshot of the Hub's cache, as a link to a blob of the same repository.

        There every file is one: REPOSITORY/snapshots/REVISION/NAME -> REPOSITORY/blobs/DIGEST.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return False
        # Of the parents, the nearest that is called so: the one above, or further up where the model has a subfolder.
        parents = self.folder.resolve().parents
        repository = next((parent.parent for parent in parents if parent.name == "snapshots"), None)
        return repository is not None and path.parent == repository / "blobs"


def map_file(path: Path) -> memoryview:
    """A memory-mapped file.

    Raises:
        ExternalDataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            # An empty file cannot be mapped.
            if not path.stat().st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ExternalDataError(f"{path.name} cannot be read: {error.strerror or error}") from error


def _parse(message: memoryview) -> _Message:
    tensor = _Message()
    for number, kind, value in fields(message):
        if number == 1:
            tensor.shape += (
                [signed(int(size)) for size in varints(value)]
                if isinstance(value, memoryview)
                else [signed(value)]
            )
        elif number == 2:
            tensor.kind = as_integer(value)
        elif number in (_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S):
            tensor.values.setdefault(number, []).append(_values(number, kind, value))
        elif number == 8:
            tensor.name = as_text(value)
        elif number == 9:
            tensor.raw = as_bytes(value)
        elif number == 13:
            key, setting = _entry(as_bytes(value))
            tensor.external[key] = setting
        elif number == 14:
            tensor.location = as_integer(value)
    return tensor


def _values(number: int, kind: int, value: int | memoryview) -> Array:
    """The values of one occurrence of a repeated field: packed, or a single one."""
    if isinstance(value, int):
        return np.array([value], np.uint64)
    if kind == BYTES and number not in _ITEMS:
        return varints(value)
    if number not in _ITEMS:
        raise WireError("a value of another type than its field")
    return _from_bytes(value, _ITEMS[number])


def _entry(message: memoryview) -> tuple[str, str]:
    parts = {number: as_text(value) for number, _, value in fields(message) if number in (1, 2)}
    return parts.get(1, ""), parts.get(2, "")


def _from_bytes(data: memoryview, kind: str) -> Array:
    dtype = np.dtype("<u2" if kind == "bfloat16" else kind)
    if len(data) % dtype.itemsize:
        raise WireError(f"{len(data)} bytes are no whole number of values")
    values: Array = np.frombuffer(data, dtype)
    return _widened(values) if kind == "bfloat16" else values


def _from_values(parts: list[Array], kind: str) -> Array:
    values = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    if kind == "bfloat16":
        return _widened(values.astype(np.uint16))
    dtype = np.dtype(kind)
    if dtype.kind == "f" and dtype.itemsize == 2:
        return values.astype(np.uint16).view(dtype)
    if dtype.kind == "c":
        if values.size % 2:
            raise WireError("half a complex number")
        return values.astype("<f4" if dtype.itemsize == 8 else "<f8").view(dtype)
    # Varints are uint64; casting wraps around to negative numbers.
    return values.astype(dtype)


def _widened(bits: Array) -> Array:
    """Bfloat16 as float32: its bits are the upper half."""
    wide: Array = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide
