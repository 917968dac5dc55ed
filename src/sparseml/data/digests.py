"""Digests of what files hold: a copy counts as the same file, and a file that was edited as another one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from resparse.progress import share
from sparseml.data.patterns import matching_files, split_names

_CHUNK = 1 << 18


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; read once in a process, for as long as the file stays as it is.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _read(path.resolve(), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=1024)
def _read(path: Path, size: int, _time: int, _inode: int) -> str:
    digest, part, read = hashlib.sha256(), memoryview(bytearray(_CHUNK)), 0
    with path.open("rb", buffering=0) as file, share(f"reading {path.name}", size) as done:
        while count := file.readinto(part):
            digest.update(part[:count])
            read += count
            done(read)
    return digest.hexdigest()


def digest_of(files: Sequence[Path]) -> str:
    """One digest for the endings and contents of several files, in their order; their names do not count.

    Raises:
        OSError: one cannot be read.
    """
    parts = [f"{''.join(path.suffixes[-2:]).lower()} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def named_files(text: str, outside: Path | None = None) -> list[Path]:
    """The files that a path, a pattern or a comma-separated list of these stands for; none where there are none.

    A folder stands for all files below it that are not hidden, but for those in the folder `outside`.
    """
    return [path for name in split_names(text.strip()) for path in _files_of(name, outside)]


def _files_of(name: str, outside: Path | None) -> list[Path]:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return matching_files(name)
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder))
    return [path for path in found if outside is None or not _is_inside(path, outside)]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
