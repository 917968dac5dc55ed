"""Protocol Buffers' wire format: a message is a run of numbered fields. Nothing is copied but numbers.

Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resparse.arrays import Array

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class WireError(ValueError):
    """Bytes that are no message."""


def fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """The fields of a message: number, wire type, and value (bytes as a view; fixed numbers as their bytes).

    Raises:
        WireError: the message is cut short, or is none.
    """
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError("a field without a number")
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, place = _varint(message, place)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"a field of the wire type {kind}")
        if size > end - place:
            raise WireError(f"{size} bytes are announced where {end - place} are left")
        yield number, kind, message[place : place + size]
        place += size


def signed(value: int) -> int:
    """A varint as an int64."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: int | memoryview) -> str:
    """A field that holds text."""
    try:
        return str(view(value), "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"a name is no UTF-8: {error}") from error


def view(value: int | memoryview) -> memoryview:
    """A field that holds bytes."""
    if isinstance(value, int):
        raise WireError("a number where bytes belong")
    return value


def integer(value: int | memoryview) -> int:
    """A field that holds an int64."""
    if not isinstance(value, int):
        raise WireError("bytes where a number belongs")
    return signed(value)


def varints(packed: memoryview) -> Array:
    """A packed run of varints, as uint64: [count].

    Raises:
        WireError: the last one is cut short, or one is longer than ten bytes.
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


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for digit, octet in enumerate(message[place : place + _LONGEST_VARINT]):
        value |= (octet & 0x7F) << 7 * digit
        if octet < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + digit + 1
    raise WireError("a number is cut short or has more than ten bytes")
