"""Packed models on disk: packed once, then mapped, and shared by all processes that map the same file.

A file is the block, then a seal: the digest of the block and the key that the file was made under. What is damaged, or
was made from something else, is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from deepsparse.hardware import cpu_model
from deepsparse.native.layout import VERSION
from deepsparse.native.library import Isa
from resparse import __version__
from resparse.arrays import Array
from resparse.files import WriteError, whole_file

VARIABLE: Final = "DEEPSPARSE_CACHE"
"""The variable that names the folder; empty turns the cache off."""

KEPT: Final = 16
"""Files in the folder: those used longest ago go."""

_DIGEST: Final = 32
_ENDING: Final = ".packed"
_CHUNK: Final = 1 << 20


def folder() -> Path | None:
    """Where packed models are kept; None where they are not."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named.strip() else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification wants relative paths to be ignored.
    place = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return place / "resparse" / "native"


def key_of(files: Mapping[Path, memoryview], isa: Isa) -> bytes:
    """What a packed model depends on: the model's bytes, the instruction set, the processor and this version."""
    digest = hashlib.sha256()
    digest.update(f"{VERSION} {__version__} {isa.name} {cpu_model()}".encode())
    for data in files.values():
        digest.update(hashlib.sha256(data).digest())
    return digest.digest()


def cached(key: bytes, make: Callable[[], Array]) -> Array:
    """A packed model from the cache, or made and put there; where that cannot be, only made.

    Args:
        key: see `key_of`.
        make: gives the block.

    Returns:
        The block; read-only and shared with other processes if it comes from the cache.
    """
    place = folder()
    if place is None:
        return make()
    path = place / f"{key.hex()[:32]}{_ENDING}"
    found = _mapped(path, key)
    if found is not None:
        # Its time says when it was used last.
        with contextlib.suppress(OSError):
            os.utime(path)
        return found
    block = make()
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(block.data)
            file.write(hashlib.sha256(block.data).digest() + key)
    except WriteError:
        # No room, or no permission: the model runs all the same.
        return block
    _drop_old(place)
    mapped = _mapped(path, key)
    return block if mapped is None else mapped


def _mapped(path: Path, key: bytes) -> Array | None:
    """A whole file of this key, mapped; None where there is none."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size - _DIGEST - len(key)
            if size <= 0:
                return None
            digest = hashlib.sha256()
            # Read, not mapped: what is only checked should not count as this process's memory.
            for place in range(0, size, _CHUNK):
                digest.update(file.read(min(_CHUNK, size - place)))
            if file.read() != digest.digest() + key:
                return None
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8, size)
    except (OSError, ValueError):
        return None


def _drop_old(place: Path) -> None:
    """Remove all but the files used last; another process may do the same at the same time."""
    with contextlib.suppress(OSError):
        files = sorted(place.glob(f"*{_ENDING}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[KEPT:]:
            path.unlink(missing_ok=True)
