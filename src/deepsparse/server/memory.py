"""The server's heap: models come and go for months, and what they leave must not add up."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Final

_M_ARENA_MAX: Final = -8  # of glibc's malloc.h
_VARIABLES: Final = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def keep_memory_together() -> None:
    """Let all threads allocate from one heap, where the C library is glibc; before any thread is started.

    By default every thread has a heap of its own, up to eight for each core. Models are loaded and closed on
    different threads, so each heap keeps holes of the size of a model, and fills over thousands of requests. The
    threads seldom meet in malloc: the engine keeps its buffers. Whoever has set glibc's variables has chosen otherwise.
    """
    if any(name in os.environ for name in _VARIABLES):
        return
    # Other C libraries have no such function.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
