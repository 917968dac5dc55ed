"""The compiled library, by ctypes, which releases the interpreter lock; `csrc/engine.h` is its contract."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from enum import IntEnum, IntFlag
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final

import numpy as np

from deepsparse.errors import EngineError, ModelError
from resparse.arrays import Array
from resparse.errors import did_you_mean

ISA_VARIABLE: Final = "DEEPSPARSE_ISA"
"""The variable that forces an instruction set: amx, avx512, avx2, portable."""

LANES: Final = 16
"""Rows of a packed matrix are padded to a multiple of these."""


class Isa(IntFlag):
    """Instruction sets, the better ones later."""

    PORTABLE = 1
    AVX2 = 2
    AVX512 = 4
    AMX = 8


class Form(IntEnum):
    """How the weights of a matrix are packed; see `csrc/pack.h`."""

    DENSE = 1
    SLOTS64 = 2
    SLOTS16 = 3
    MASK64 = 4
    FLOAT = 5


FORMS: Final = {
    Isa.PORTABLE: (Form.DENSE, Form.SLOTS64, Form.MASK64),
    Isa.AVX2: (Form.DENSE, Form.SLOTS16),
    Isa.AVX512: (Form.DENSE, Form.SLOTS64),
    Isa.AMX: (Form.DENSE, Form.SLOTS64, Form.MASK64),
}
"""The forms of integer weights that the kernels of an instruction set read; all read `Form.FLOAT`."""

_POINTER = c_void_p
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "resparse_error": (c_char_p, ()),
    "resparse_isas": (c_uint32, ()),
    "resparse_pack": (c_int64, (c_uint32, _POINTER, c_uint32, c_uint32, _POINTER, c_int64)),
    "resparse_time": (c_double, (c_uint32, c_uint32, _POINTER, c_int64, c_uint32, c_uint32, c_uint32)),
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
    """Where the library lies; None where it was not built."""
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


def error() -> str:
    """What went wrong last in this thread."""
    text = load().resparse_error()
    return text.decode(errors="replace") if text else "for a reason that it does not give"


def isas() -> list[Isa]:
    """The instruction sets that this processor has and the library has kernels for, best first."""
    found = load().resparse_isas()
    return [isa for isa in reversed(Isa) if isa & found]


def is_forced() -> bool:
    """Whether `DEEPSPARSE_ISA` names an instruction set."""
    return bool(_forced())


def _forced() -> str:
    return os.environ.get(ISA_VARIABLE, "").strip()


def chosen_isa() -> Isa:
    """The best instruction set, or the one that `DEEPSPARSE_ISA` names.

    Raises:
        EngineError: that one is unknown, or not to be had here.
    """
    usable = isas()
    wanted = _forced()
    if not wanted:
        return usable[0]
    names = {isa.name.lower(): isa for isa in Isa if isa.name}
    isa = names.get(wanted.lower())
    if isa is None:
        raise EngineError(
            f"{ISA_VARIABLE}={wanted!r}: no such instruction set. {did_you_mean(wanted, names)}"
        )
    if isa not in usable:
        had = ", ".join(other.name.lower() for other in usable if other.name)
        raise EngineError(
            f"{ISA_VARIABLE}={wanted}: this processor, or this build, does not have it; to be had here: {had}."
        )
    return isa


def packed_size(form: Form, weights: Array) -> int:
    """Bytes that a matrix takes in a form; arguments as for `pack`."""
    rows, columns = weights.shape
    return _checked(load().resparse_pack(form, _address(weights, np.int8), rows, columns, None, 0))


def pack(form: Form, weights: Array, out: Array) -> None:
    """Pack a matrix.

    Args:
        weights: int8 [outputs, inputs], contiguous.
        out: uint8 [packed_size(...)], at an address that is a multiple of 64.
    """
    rows, columns = weights.shape
    address = _address(weights, np.int8)
    _checked(load().resparse_pack(form, address, rows, columns, _address(out, np.uint8), out.size))


def trim() -> None:
    """Give memory that packing has left unused back to the system."""
    load().resparse_trim()


def seconds(isa: Isa, form: Form, packed: Array, rows: int, columns: int, tokens: int) -> float:
    """How long the product with a packed matrix takes, on one thread, for so many tokens."""
    address = _address(packed, np.uint8)
    taken: float = load().resparse_time(isa, form, address, packed.size, rows, columns, tokens)
    if taken < 0:
        raise ModelError(f"The native engine cannot multiply {rows} × {columns}: {error()}")
    return taken


def multiply(isa: Isa, form: Form, packed: Array, rows: int, columns: int, x: Array) -> Array:
    """The integer product alone: x [tokens, columns], uint8, times the packed matrix; int32 [tokens, rows]."""
    tokens = len(x)
    out = aligned(4 * tokens * padded(rows)).view(np.int32).reshape(tokens, padded(rows))
    _checked(
        load().resparse_multiply(
            isa,
            form,
            _address(packed, np.uint8),
            packed.size,
            rows,
            columns,
            _address(x, np.uint8),
            tokens,
            _address(out, np.int32),
        )
    )
    return out[:, :rows]


def padded(rows: int) -> int:
    """Rows with those that fill up the last vector."""
    return -(-rows // LANES) * LANES


def aligned(size: int, to: int = 64) -> Array:
    """Zeroed bytes whose address is a multiple of `to`."""
    memory = np.zeros(size + to, np.uint8)
    start = -memory.ctypes.data % to
    return memory[start : start + size]


class Model:
    """A packed model, opened; `run` is safe to call from several threads.

    Args:
        block: uint8, laid out as `csrc/engine.h` says; kept as long as this object.

    Raises:
        ModelError: something in the block points out of it.
    """

    def __init__(self, block: Array, labels: int) -> None:
        self._library = load()
        self._block = block
        self._labels = labels
        self._handle = self._library.resparse_open(_address(block, np.uint8), block.size)
        if not self._handle:
            raise ModelError(f"The native engine refuses the packed model: {error()}")

    def run(self, ids: Array, types: Array | None, positions: Array, starts: Array, threads: int) -> Array:
        """Classify texts, whose tokens stand one after the other.

        Args:
            ids, types, positions: int32 [tokens]; without types, all are 0.
            starts: int64 [texts + 1], where each text begins, and the end.
            threads: that compute, at most.

        Returns:
            Logits, float32 [texts, labels].
        """
        texts = len(starts) - 1
        logits = np.empty((texts, self._labels), np.float32)
        status = self._library.resparse_run(
            self._handle,
            _address(ids, np.int32),
            None if types is None else _address(types, np.int32),
            _address(positions, np.int32),
            _address(starts, np.int64),
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


def _address(array: Array, dtype: Any) -> int:
    assert array.dtype == dtype and array.flags.c_contiguous, "the library reads plain arrays"
    return int(array.ctypes.data)


def _checked(result: int) -> int:
    if result < 0:
        raise ModelError(f"The native engine: {error()}")
    return result
