"""Files that take seconds to make, made once for all tests of a session, in whichever of its processes they run.

    path = once.made(("export", architecture, settings), lambda path: write(path))

The key says all that the file depends on, the code excepted: nothing is kept beyond the session. Tests must not change
what they get; they copy it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

_folder: Path | None = None


def keep_in(folder: Path) -> None:
    """Where made files are kept: one folder for all processes of the session; conftest.py says so."""
    global _folder  # noqa: PLW0603
    folder.mkdir(parents=True, exist_ok=True)
    _folder = folder


@cache
def _own() -> TemporaryDirectory[str]:
    """For programs that use these helpers outside of pytest: gone when the process ends."""
    return TemporaryDirectory(prefix="resparse-tests-")


def made(key: object, make: Callable[[Path], object]) -> Path:
    """The file or folder of this key, which `make` writes at the path it is given, unless a process has done so.

    Args:
        key: of a `repr` that is the same in all processes.
        make: what it raises is raised; then nothing is kept, and the next one to ask tries anew.
    """
    folder = _folder or Path(_own().name)
    path = folder / hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    if not path.exists():
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                partial = path.with_suffix(".partial")
                make(partial)
                partial.rename(path)
    return path
