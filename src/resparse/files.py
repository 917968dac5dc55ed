"""Atomic writes: files and folders are written beside their path, then renamed onto it.

What a killed process leaves beside a path is removed by the next that writes there: names of temporary files tell the
machine and the process that they belong to.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from resparse.errors import UserError

_ENDING: Final = ".part"
_OLD: Final = 60 * 60
"""Seconds after which a file is not written any more."""


class WriteError(UserError):
    """A file or folder could not be written (disk full, no permission, ...)."""


def refuse_unwritable(path: Path) -> None:
    """Refuse a path that nothing can be written to, before hours of work for it.

    Raises:
        WriteError: of the folders above it the nearest that exists cannot be written.
    """
    there = path.expanduser().absolute()
    while not there.exists():
        there = there.parent
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        reason = errno.EACCES
        if hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY:
            reason = errno.EROFS
        raise WriteError(f"Could not write {path}: {os.strerror(reason)} ({there}). Choose another place.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block ends well.

    Raises:
        WriteError: the disk is full, or the folder cannot be written. `path` is then as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=_ENDING, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        give_usual_mode(temporary)
        temporary.replace(path)
    except OSError as error:
        raise WriteError(
            f"Could not write {path}: {error.strerror or error}. What was there before is untouched."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block ends well.

    `path` must not exist yet, or be an empty folder. Two processes may race for the same folder:
    the first to finish wins, and the other's work is dropped.

    Raises:
        WriteError: the disk is full, or the parent cannot be written.
    """
    try:
        with temporary_folder(path) as temporary:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            try:
                temporary.rename(path)
            except OSError:
                if not path.is_dir():
                    raise
    except OSError as error:
        raise WriteError(f"Could not write {path}: {error.strerror or error}.") from error


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path`, removed when the block ends; it is on the same file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=_ENDING, dir=path.parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files and folders beside `path` whose process, of this machine, has ended."""
    _remove(_leftovers(path.parent, path.name))


def remove_leftovers_in(folder: Path) -> None:
    """Do so for all files of a folder."""
    _remove(_leftovers(folder))


def unfinished_file(path: Path) -> Path:
    """A file beside `path` that this process alone writes, in place of it, and that is kept where it is killed.

    What an ended process has left so is taken over, with what it holds; otherwise there is no such file yet.
    """
    own = path.with_name(f"{_prefix(path)}unfinished{_ENDING}")
    for left in _leftovers(path.parent, path.name):
        # Another process may have been faster.
        with contextlib.suppress(OSError):
            left.rename(own)
            break
    return own


def _remove(left: list[Path]) -> None:
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Temporary files, of this name or of any, whose process has ended; another machine's, if they are old."""
    named = re.compile(
        rf"\.{'.+' if name is None else re.escape(name)}"
        rf"\.(?P<machine>[0-9a-f]{{8}})-(?P<process>\d+)-.*{_ENDING}"
    )
    found = []
    with contextlib.suppress(OSError):
        for left in folder.glob(f".{'*' if name is None else glob.escape(name)}.*{_ENDING}"):
            parts = named.fullmatch(left.name)
            if parts is None:
                continue
            if parts["machine"] == _machine():
                has_ended = not _runs(int(parts["process"]))
            else:
                has_ended = time.time() - left.stat().st_mtime > _OLD
            if has_ended:
                found.append(left)
    return found


def _prefix(path: Path) -> str:
    return f".{path.name}.{_machine()}-{os.getpid()}-"


def _machine() -> str:
    """This machine's name, shortened: on a shared file system other machines' processes have numbers, too."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    if os.name != "posix":  # elsewhere the signal 0 is a signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, with a newline at the end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def give_usual_mode(path: Path) -> None:
    """Give a file the mode of the user's umask: temporary files are created readable by their owner alone."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
