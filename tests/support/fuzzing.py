"""What fuzzing demands of every reader of foreign input: an answer or one clear error, soon and in bounded memory.

A `Target` is one reader; `support.fuzz_targets` lists them. `tests/fuzz/run.py` is the program that searches for long.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from resparse.errors import UserError

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
SLOWEST_S = 5.0
_LONGEST_MESSAGE = 2000


class FaultError(AssertionError):
    """A reader that did something else than answer, or raise one UserError, in time and memory."""


@dataclass(frozen=True)
class Target:
    """A reader of foreign input.

    Attributes:
        name: also of its folder in the corpus.
        feed: reads an input (bytes); a folder is there for files, and empty. What it returns is an answer, a UserError
            a refusal; anything else is a fault.
        packages: whose code is watched for coverage.
        tokens: parts of the input's language.
    """

    name: str
    feed: Callable[[bytes, Path], object]
    packages: tuple[str, ...]
    tokens: tuple[bytes, ...] = ()

    @property
    def folder(self) -> Path:
        """Its corpus: inputs that are in order, and those that once found a fault."""
        return CORPUS / self.name

    def warm(self, folder: Path) -> None:
        """Feed the first input, so that imports and models that are made once count as no input's."""
        with _emptied(folder), suppress(UserError):
            self.feed(self.corpus()[0], folder)

    def corpus(self) -> list[bytes]:
        """The inputs in `folder`, in the order of their names."""
        return [path.read_bytes() for path in sorted(self.folder.iterdir())]


class Memory:
    """The peak of this process's resident memory, which no input may double."""

    def __init__(self) -> None:
        self.normal = _peak_bytes()

    def check(self) -> None:
        """Raise a FaultError where the peak has doubled."""
        if (peak := _peak_bytes()) > 2 * self.normal:
            raise FaultError(f"memory rose from {self.normal / 1e6:.0f} to {peak / 1e6:.0f} MB")

    def raise_normal(self) -> None:
        """Take the peak so far for normal: after a fault that is known, the next one shall show."""
        self.normal = max(self.normal, _peak_bytes())


def check(target: Target, data: bytes, folder: Path, memory: Memory | None = None) -> bool:
    """Feed an input to a target; return whether it was answered, not refused.

    Raises:
        FaultError: it raised something else, took too long, or too much memory.
    """
    started = time.monotonic()
    answered = True
    with _emptied(folder):
        try:
            target.feed(data, folder)
        except UserError as error:
            answered = False
            text = str(error)
            if not text.strip() or len(text) > _LONGEST_MESSAGE + 8 * len(data):
                raise FaultError(f"an error of {len(text)} characters: {text[:200]!r}") from error
        except FaultError:
            raise
        except Exception as error:
            raise FaultError(f"{type(error).__name__}: {str(error)[:300]}") from error
    if (taken := time.monotonic() - started) > SLOWEST_S:
        raise FaultError(f"it took {taken:.1f} s")
    if memory is not None:
        memory.check()
    return answered


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """Remove what a target has written into its folder; more than a file of a folder is not expected there."""
    try:
        yield
    finally:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
