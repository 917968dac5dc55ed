"""Tensors of an ONNX file as NumPy arrays: views of the file where it holds their bytes as they are."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from deepsparse.native import wire
from deepsparse.native.wire import WireError
from resparse.arrays import Array

_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S = 4, 5, 7, 10, 11
_ITEMS: Final = {_FLOATS: "<f4", _DOUBLES: "<f8"}
_EXTERNAL: Final = 1

# By ONNX's number: the type of the bytes, and the field for values where there are no bytes.
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


class ExternalDataError(ValueError):
    """A file of weights beside the model is missing, too short, or somewhere else."""


@dataclass
class _Message:
    """A TensorProto, taken apart."""

    name: str = ""
    shape: list[int] = field(default_factory=list)
    kind: int = 0
    raw: memoryview | None = None
    values: dict[int, list[Array]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    location: int = 0


class Reader:
    """Reads tensors; files of weights beside the model are mapped once.

    Attributes:
        folder: where the model lies: its files of weights may lie there and below, and nowhere else.
        files: those that were read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[Path, memoryview] = {}

    def tensor(self, message: memoryview) -> tuple[str, Array | None]:
        """A tensor's name and values; None for types that NumPy cannot hold (text, 4-bit integers).

        Raises:
            WireError: the message is damaged, or holds more or less than its shape says.
            ExternalDataError: its file is not to be had.
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
        if not name or not path.is_relative_to(self.folder.resolve()):
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


def map_file(path: Path) -> memoryview:
    """A file's bytes, read as they are needed.

    Raises:
        ExternalDataError: there is no such file.
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
    for number, kind, value in wire.fields(message):
        if number == 1:
            tensor.shape += (
                [wire.signed(int(size)) for size in wire.varints(value)]
                if isinstance(value, memoryview)
                else [wire.signed(value)]
            )
        elif number == 2:
            tensor.kind = wire.integer(value)
        elif number in (_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S):
            tensor.values.setdefault(number, []).append(_run(number, kind, value))
        elif number == 8:
            tensor.name = wire.text(value)
        elif number == 9:
            tensor.raw = wire.view(value)
        elif number == 13:
            key, setting = _entry(wire.view(value))
            tensor.external[key] = setting
        elif number == 14:
            tensor.location = wire.integer(value)
    return tensor


def _run(number: int, kind: int, value: int | memoryview) -> Array:
    """The values of one field: usually all of them, packed; or a single one."""
    if isinstance(value, int):
        return np.array([value], np.uint64)
    if kind == wire.BYTES and number not in _ITEMS:
        return wire.varints(value)
    if number not in _ITEMS:
        raise WireError("a value of another type than its field")
    return _from_bytes(value, _ITEMS[number])


def _entry(message: memoryview) -> tuple[str, str]:
    parts = {number: wire.text(value) for number, _, value in wire.fields(message) if number in (1, 2)}
    return parts.get(1, ""), parts.get(2, "")


def _from_bytes(data: memoryview, kind: str) -> Array:
    dtype = np.dtype("<u2" if kind == "bfloat16" else kind)
    if len(data) % dtype.itemsize:
        raise WireError(f"{len(data)} bytes are no whole number of values")
    values: Array = np.frombuffer(data, dtype)
    return _widened(values) if kind == "bfloat16" else values


def _from_values(runs: list[Array], kind: str) -> Array:
    values = np.concatenate(runs) if runs else np.empty(0, np.uint64)
    if kind == "bfloat16":
        return _widened(values.astype(np.uint16))
    dtype = np.dtype(kind)
    if dtype.kind == "f" and dtype.itemsize == 2:
        return values.astype(np.uint16).view(dtype)
    if dtype.kind == "c":
        if values.size % 2:
            raise WireError("half a complex number")
        return values.astype("<f4" if dtype.itemsize == 8 else "<f8").view(dtype)
    # Varints are kept as uint64; casting wraps to what was meant.
    return values.astype(dtype)


def _widened(bits: Array) -> Array:
    """Bfloat16 as float32, of which it is the upper half."""
    wide: Array = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide
