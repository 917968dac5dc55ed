"""What tables of any format are made of: rows that were read or not, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from deepsparse.errors import DeepsparseError


class TableError(DeepsparseError):
    """A file that cannot be read as a table, or that lacks columns."""


@dataclass(frozen=True)
class Place:
    """A position in a file between rows: byte, and line from 1."""

    byte: int
    line: int


@dataclass(frozen=True)
class Row:
    """A row that was read: it begins at `line`, the next one at `after`; `raw` is its text in the file."""

    line: int
    after: Place
    values: dict[str, Any]
    raw: str


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read, and why."""

    line: int
    after: Place
    reason: str
    raw: str


class Source(Protocol):
    """The file of a table: a `Path`, or a file elsewhere that can do the same."""

    @property
    def suffix(self) -> str: ...

    def is_file(self) -> bool: ...

    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...
