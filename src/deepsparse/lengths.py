"""How many rows were longer than the model takes: counted for files and the server, said once to everyone else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from resparse.console import say_once


@dataclass
class Lengths:
    """Counts of a pipeline's rows; safe to add to from several threads.

    Attributes:
        tokens: what one window takes, special tokens included.
        windows: whether longer rows are read in windows.
        longer: rows that are longer than that.
        unread: of these, rows of which a part was not read.
        told: called with both numbers as they grow; without it, the first longer row is said.
    """

    tokens: int
    windows: bool
    longer: int = 0
    unread: int = 0
    told: Callable[[int, int], None] | None = None
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, longer: int, unread: int) -> None:
        """Count the longer rows of one call."""
        if not longer:
            return
        with self._lock:
            self.longer += longer
            self.unread += unread
        if self.told is not None:
            self.told(longer, unread)
        elif not self.windows:
            say_once(
                f"A text is longer than {self.tokens} tokens: it is cut there, and so is every other "
                "(long_texts='windows' reads all of it; sequence_length says where)."
            )
        elif unread:
            say_once(
                f"A text is longer than all its windows of {self.tokens} tokens: what is behind them is not read "
                "(max_windows says how many there are)."
            )

    def text(self) -> str | None:
        """What became of the longer rows, in one line; None where there were none."""
        return longer_text(self.longer, self.unread, self.tokens, self.windows)


def longer_text(longer: int, unread: int, tokens: int, windows: bool) -> str | None:
    """What became of the rows that are longer than `tokens`, in one line; None where there were none."""
    if not longer:
        return None
    were = "row was" if longer == 1 else "rows were"
    if not windows:
        return f"{longer:,} {were} longer than {tokens} tokens, and cut there"
    rest = f"; of {unread:,} a part was not read" if unread else ""
    return f"{longer:,} {were} longer than {tokens} tokens, and read in windows{rest}"
