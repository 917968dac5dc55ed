"""The compiled library, called by ctypes, which releases the interpreter lock; `csrc/engine.h` is its interface."""

from __future__ import annotations

import ctypes
import hashlib
import os
from ctypes import c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final

import numpy as np

from deepsparse.errors import EngineError, ModelError
from resparse.arrays import Array
from resparse.console import say_once
from resparse.errors import did_you_mean

ISA_VARIABLE: Final = "DEEPSPARSE_ISA"
"""The environment variable that forces an instruction set, by its name."""

PRECISION_VARIABLE: Final = "DEEPSPARSE_PRECISION"
"""The environment variable that says in which precision layers in float are multiplied: one of `PRECISIONS`."""

PRECISIONS: Final = ("float32", "bf16")

PORTABLE: Final = "portable"
"""The instruction set of the reference kernels, in plain C++."""

PANEL_ROWS: Final = 16
"""Rows of packed matrices are padded to multiples of it."""


class WeightFormat(IntEnum):
    """How the weights of a matrix are packed; see `csrc/weight_formats.h`."""

    DENSE = 1
    SLOTS64 = 2
    MASK64 = 4
    FLOAT = 5
    SPARSE_FLOAT = 6
    DENSE_OCTETS = 8
    SLOTS32 = 9
    CSR4 = 10
    BFLOAT16 = 11

    @property
    def is_float(self) -> bool:
        """Whether weights are floats, on float inputs."""
        return self in (WeightFormat.FLOAT, WeightFormat.SPARSE_FLOAT, WeightFormat.BFLOAT16)


@dataclass(frozen=True)
class InstructionSet:
    """An instruction set that the library knows; `csrc/instruction_sets.cpp` lists them.

    Attributes:
        name: in lower case.
        isa: its bit.
        formats: of integer weights that its kernels read; all read those in float.
    """

    name: str
    isa: int
    formats: tuple[WeightFormat, ...]


class _Description(ctypes.Structure):
    """`InstructionSet` of `csrc/engine.h`."""

    _fields_ = (("name", c_char_p), ("isa", c_uint32), ("formats", c_uint32))


class TimedMatrix(ctypes.Structure):
    """`TimedMatrix` of `csrc/engine.h`."""

    _fields_ = (
        ("packed", c_void_p),
        ("size", c_uint64),
        ("rows", c_uint32),
        ("columns", c_uint32),
        ("format", c_uint32),
        ("activation", c_uint32),
    )


_POINTER = c_void_p
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "resparse_error": (c_char_p, ()),
    "resparse_instruction_set": (ctypes.POINTER(_Description), (c_uint32,)),
    "resparse_isas": (c_uint32, ()),
    "resparse_bfloats": (c_int, (c_uint32,)),
    "resparse_pack": (c_int64, (c_uint32, _POINTER, c_uint32, c_uint32, _POINTER, c_int64)),
    "resparse_time": (
        c_double,
        (c_uint32, ctypes.POINTER(TimedMatrix), c_uint32, c_uint32, c_uint32, c_uint32, c_int),
    ),
    "resparse_multiply": (
        c_int,
        (c_uint32, c_uint32, _POINTER, c_int64, c_uint32, c_uint32, _POINTER, c_uint32, _POINTER),
    ),
    "resparse_trim": (None, ()),
    "resparse_open": (c_void_p, (_POINTER, c_uint64)),
    "resparse_close": (None, (c_void_p,)),
    "resparse_run": (
        c_int,
        (c_void_p, _POINTER, _POINTER, _POINTER, _POINTER, c_int32, c_int32, ctypes.POINTER(c_float)),
    ),
}


def file() -> Path | None:
    """The library's path; None where it was not built."""
    folder = Path(__file__).parent
    return next((path for end in EXTENSION_SUFFIXES if (path := folder / f"_engine{end}").is_file()), None)


@cache
def load() -> ctypes.CDLL:
    """The library.

    Raises:
        EngineError: it was not built when this package was installed, or cannot be loaded.
    """
    path = file()
    if path is None:
        raise EngineError(
            "The native engine was not built when resparse was installed: that needs a C++ compiler (g++ or "
            "clang++). Install one, then: pip install --force-reinstall --no-deps resparse"
        )
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(
            f"The native engine's library {path} cannot be used here: {error}. Install resparse again."
        ) from error
    return library


@cache
def digest() -> bytes:
    """SHA-256 of the library's file: builds of one version may differ. Empty where it was not built."""
    path = file()
    return b"" if path is None else hashlib.sha256(path.read_bytes()).digest()


def error() -> str:
    """The last error message of this thread."""
    text = load().resparse_error()
    return text.decode(errors="replace") if text else "for a reason that it does not give"


@cache
def instruction_sets() -> tuple[InstructionSet, ...]:
    """All instruction sets that the library knows, best first."""
    found: list[InstructionSet] = []
    while description := load().resparse_instruction_set(len(found)):
        one = description.contents
        formats = tuple(known for known in WeightFormat if one.formats >> known & 1)
        found.append(InstructionSet(one.name.decode(), one.isa, formats))
    return tuple(reversed(found))


def isas() -> list[InstructionSet]:
    """The instruction sets that this processor has and the library has kernels for, best first."""
    usable = load().resparse_isas()
    return [one for one in instruction_sets() if one.isa & usable]


def is_forced() -> bool:
    """Whether `DEEPSPARSE_ISA` names an instruction set."""
    return bool(_forced())


def _forced() -> str:
    return os.environ.get(ISA_VARIABLE, "").strip()


def chosen_isa() -> InstructionSet:
    """The best instruction set, or the one that `DEEPSPARSE_ISA` names.

    Raises:
        EngineError: that one is unknown, or not available here.
    """
    usable = isas()
    wanted = _forced()
    if not wanted:
        return usable[0]
    names = {one.name: one for one in reversed(instruction_sets())}
    isa = names.get(wanted.lower())
    if isa is None:
        raise EngineError(
            f"{ISA_VARIABLE}={wanted!r}: no such instruction set. {did_you_mean(wanted, names)}"
        )
    if isa not in usable:
        had = ", ".join(other.name for other in usable)
        raise EngineError(
            f"{ISA_VARIABLE}={wanted}: this processor, or this build, does not have it; to be had here: {had}."
        )
    return isa


def multiplies_bfloats(isa: InstructionSet) -> bool:
    """Whether layers in float are to be multiplied in bfloat16, as `DEEPSPARSE_PRECISION` says.

    Where the processor has no such products it is float32 all the same, and a line says so.

    Raises:
        EngineError: there is no such precision.
    """
    wanted = os.environ.get(PRECISION_VARIABLE, "").strip().lower()
    if wanted and wanted not in PRECISIONS:
        raise EngineError(
            f"{PRECISION_VARIABLE}={wanted!r}: no such precision. {did_you_mean(wanted, PRECISIONS)}"
        )
    if wanted != "bf16":
        return False
    found = bool(load().resparse_bfloats(isa.isa))
    if not found:
        say_once(
            f"{PRECISION_VARIABLE}=bf16: with {isa.name} this processor, or this build, has no products of bfloat16, "
            "so layers in float stay in float32."
        )
    return found


def packed_size(weight_format: WeightFormat, weights: Array) -> int:
    """Size of a packed matrix in bytes; arguments as for `pack`."""
    rows, columns = weights.shape
    return _checked(load().resparse_pack(weight_format, address(weights, np.int8), rows, columns, None, 0))


def pack(weight_format: WeightFormat, weights: Array, out: Array) -> None:
    """Pack a matrix.

    Args:
        weights: int8 [outputs, inputs], contiguous.
        out: uint8 [packed_size(...)], at an address that is a multiple of 64.
    """
    rows, columns = weights.shape
    given, made = address(weights, np.int8), address(out, np.uint8)
    _checked(load().resparse_pack(weight_format, given, rows, columns, made, out.size))


def row_sums(packed: Array, rows: int) -> Array:
    """The sum of each row's weights, with which a packed integer matrix begins: int32 [padded rows]."""
    sums: Array = packed[: 4 * padded(rows)].view(np.int32)
    return sums


def trim() -> None:
    """Return free heap memory to the operating system."""
    load().resparse_trim()


def multiply(
    isa: InstructionSet, weight_format: WeightFormat, packed: Array, rows: int, columns: int, x: Array
) -> Array:
    """The integer product alone: x [tokens, columns], uint8, times the packed matrix; int32 [tokens, rows]."""
    tokens = len(x)
    out = aligned(4 * tokens * padded(rows)).view(np.int32).reshape(tokens, padded(rows))
    _checked(
        load().resparse_multiply(
            isa.isa,
            weight_format,
            address(packed, np.uint8),
            packed.size,
            rows,
            columns,
            address(x, np.uint8),
            tokens,
            address(out, np.int32),
        )
    )
    return out[:, :rows]


def padded(rows: int) -> int:
    """Rows, padded to whole panels."""
    return -(-rows // PANEL_ROWS) * PANEL_ROWS


def aligned(size: int, to: int = 64) -> Array:
    """Zeroed bytes whose address is a multiple of `to`."""
    memory = np.zeros(size + to, np.uint8)
    start = -memory.ctypes.data % to
    return memory[start : start + size]


class Model:
    """A packed model, opened; `run` is safe to call from several threads.

    Args:
        block: uint8, laid out as `csrc/engine.h` says; kept alive by this object.
        labels: of the model.
        every_token: whether its head is applied to every token.

    Raises:
        ModelError: the block is damaged.
    """

    def __init__(self, block: Array, labels: int, every_token: bool = False) -> None:
        self._library = load()
        self._block = block
        self._labels = labels
        self._every_token = every_token
        self._handle = self._library.resparse_open(address(block, np.uint8), block.size)
        if not self._handle:
            raise ModelError(f"The native engine refuses the packed model: {error()}")

    def run(self, ids: Array, types: Array | None, positions: Array, starts: Array, threads: int) -> Array:
        """Run a batch of texts without padding, concatenated.

        Args:
            ids, types, positions: int32 [tokens]; without types, all are 0.
            starts: int64 [texts + 1], where each text begins, and the end.
            threads: that compute, at most.

        Returns:
            Logits, float32 [texts, labels], or [tokens, labels] where the head is applied to every token.

        Raises:
            ModelError: a token that the model does not have, or a text without tokens.
        """
        texts = len(starts) - 1
        logits = np.empty((len(ids) if self._every_token else texts, self._labels), np.float32)
        status = self._library.resparse_run(
            self._handle,
            address(ids, np.int32),
            None if types is None else address(types, np.int32),
            address(positions, np.int32),
            address(starts, np.int64),
            texts,
            threads,
            logits.ctypes.data_as(ctypes.POINTER(c_float)),
        )
        if status:
            raise ModelError(f"The native engine: {error()}")
        return logits

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.resparse_close(self._handle)


def address(array: Array, dtype: Any) -> int:
    """The address of a contiguous array of this type."""
    assert array.dtype == dtype and array.flags.c_contiguous, "the library reads plain arrays"
    return int(array.ctypes.data)


def _checked(result: int) -> int:
    if result < 0:
        raise ModelError(f"The native engine: {error()}")
    return result
