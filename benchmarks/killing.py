"""Work in a process that is killed at a moment of choice: before a file operation, or after a time.

The process is forked, so that libraries are imported once; the one that forks must have no threads of its own.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Work = Callable[[], int | None]

_CHANGES: Final = frozenset(
    {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
)
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; below zero the signal that ended it.
        seconds: how long it ran.
        operations: how many file operations it began.
    """

    code: int
    seconds: float
    operations: int

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self.code == -signal.SIGKILL


class Attempt:
    """A process that carries out some work.

    Args:
        work: what it does; its exit code is what this returns.
        folder: operations below it are counted.
        log: its output is added to this file.
        at: kill it before this operation, counted from 1.
    """

    def __init__(self, work: Work, folder: Path, log: Path, at: int | None = None) -> None:
        self._counter = mmap.mmap(-1, 8)
        self._began = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._carry_out(work, str(folder), log, at)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, after: float | None = None) -> Ended:
        """Wait until it has ended; kill it if it still runs `after` so many seconds from its beginning."""
        while after is not None and time.monotonic() - self._began < after:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return self._ended(status)
            time.sleep(0.002)
        if after is not None:
            os.kill(self.pid, signal.SIGKILL)
        return self._ended(os.waitpid(self.pid, 0)[1])

    def _ended(self, status: int) -> Ended:
        operations = struct.unpack("q", self._counter[:8])[0]
        return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - self._began, operations)

    def _carry_out(self, work: Work, folder: str, log: Path, at: int | None) -> None:
        """In the child: never returns."""
        code = 70
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.addaudithook(_Counter(folder, self._counter, at))
            code = work() or 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


class _Counter:
    """An audit hook that counts operations on files below a folder, and kills its process at one of them."""

    def __init__(self, folder: str, counter: mmap.mmap, at: int | None) -> None:
        self._folder, self._counter, self._at = folder, counter, at
        self._count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not (event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITES)):
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike):
            return
        # `shutil.rmtree` names files by their folder's descriptor; they are counted wherever they are.
        text = os.fspath(path)
        if not isinstance(text, str) or (text.startswith("/") and not text.startswith(self._folder)):
            return
        self._count += 1
        self._counter[:8] = struct.pack("q", self._count)
        if self._count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
