"""Cache of packed models on disk: packed once, then memory-mapped and shared between processes.

A file is the block, its SHA-256, and the key that it was packed under. Files that are damaged, of another key, or that
the library refuses, are replaced. Where the folder cannot be written, models run without it.
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

from deepsparse.hardware import cpu_identity
from deepsparse.native import library
from deepsparse.native.records import VERSION
from resparse import __version__
from resparse.arrays import Array
from resparse.files import WriteError, remove_leftovers_in, whole_file

VARIABLE: Final = "DEEPSPARSE_CACHE"
"""The environment variable that names the folder; empty turns the cache off."""

KEPT: Final = 16
"""Files in the folder; the least recently used are removed."""

_DIGEST: Final = 32
_ENDING: Final = ".packed"
_CHUNK: Final = 1 << 20


def folder() -> Path | None:
    """The folder of the cache; None where it is turned off, or this user has no home folder."""
    named = os.environ.get(VARIABLE)
    try:
        if named is not None:
            return Path(named).expanduser() if named.strip() else None
        base = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG specification says to ignore relative paths.
        place = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return place / "resparse" / "native"


def key_of(files: Mapping[Path, memoryview], isa: str) -> bytes:
    """Digest of what a packed model depends on: the files, the instruction set's name, the processor, this build."""
    digest = hashlib.sha256(library.digest())
    digest.update(f"{VERSION} {__version__} {isa} {cpu_identity()}".encode())
    for data in files.values():
        digest.update(hashlib.sha256(data).digest())
    return digest.digest()


def cached(key: bytes, make: Callable[[], Array]) -> Array:
    """A packed model from the cache, or made and stored there; only made where the cache cannot be written.

    Args:
        key: see `key_of`.
        make: returns the block.

    Returns:
        The block; read-only, and shared with other processes if it comes from the cache.
    """
    place = folder()
    found = None if place is None else _mapped(_path(place, key), key)
    if place is None or found is None:
        return renewed(key, make)
    # The modification time is the time of the last use.
    with contextlib.suppress(OSError):
        os.utime(_path(place, key))
    return found


def renewed(key: bytes, make: Callable[[], Array]) -> Array:
    """As `cached`, but made in any case, and stored in the place of what is there."""
    block, place = make(), folder()
    if place is None:
        return block
    path = _path(place, key)
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(block.data)
            file.write(hashlib.sha256(block.data).digest() + key)
    except WriteError:
        # No space or no permission: the model runs without the cache.
        return block
    _drop_old(place)
    mapped = _mapped(path, key)
    return block if mapped is None else mapped


def _path(place: Path, key: bytes) -> Path:
    return place / f"{key.hex()[:32]}{_ENDING}"


def _mapped(path: Path, key: bytes) -> Array | None:
    """The block of a valid file of this key, mapped; else None."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size - _DIGEST - len(key)
            if size <= 0:
                return None
            digest = hashlib.sha256()
            # Read in chunks, since touched pages of a mapping would count as this process's memory.
            for place in range(0, size, _CHUNK):
                digest.update(file.read(min(_CHUNK, size - place)))
            if file.read() != digest.digest() + key:
                return None
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8, size)
    except (OSError, ValueError):
        return None


def _drop_old(place: Path) -> None:
    """Remove the least recently used files, and unfinished ones; another process may do so at the same time."""
    with contextlib.suppress(OSError):
        files = sorted(place.glob(f"*{_ENDING}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[KEPT:]:
            path.unlink(missing_ok=True)
    remove_leftovers_in(place)
