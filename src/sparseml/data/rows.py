"""A split as it was read: columns of raw values, and the line of the file that each row came from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from resparse.errors import UserError
from sparseml.data.growing_table import Texts

if TYPE_CHECKING:
    from datasets import Dataset


MANY_ROWS: Final = 50_000
"""Texts of more rows are no Python strings but while they are worked on."""


class DataError(UserError):
    """A dataset that cannot be found, read, or used as asked."""


@dataclass(frozen=True)
class Places:
    """The origin of each row, for error messages."""

    sources: tuple[tuple[str, str], ...]  # (name, unit) of each file, such as ("train.csv", "line")
    source: np.ndarray  # (rows,) index into `sources`
    number: np.ndarray | range  # (rows,) 1-based line, item or row number

    @classmethod
    def of(cls, name: str, unit: str, numbers: Iterable[int]) -> Places:
        """The places of rows that all come from one file."""
        # A range stays one: a table that is read as a stream may have more rows than memory has room to number.
        number = numbers if isinstance(numbers, range) else np.fromiter(numbers, dtype=np.int64)
        return cls(((name, unit),), np.broadcast_to(np.int64(0), len(number)), number)

    @classmethod
    def concatenate(cls, parts: Sequence[Places]) -> Places:
        """The places of several files' rows, one file after the other."""
        offsets = np.cumsum([0] + [len(part.sources) for part in parts])
        return cls(
            tuple(source for part in parts for source in part.sources),
            np.concatenate([part.source + offset for part, offset in zip(parts, offsets, strict=False)]),
            np.concatenate([part.number for part in parts]),
        )

    def take(self, indices: Sequence[int] | np.ndarray) -> Places:
        """The places of the rows of these indices."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Places(self.sources, self.source[chosen], np.asarray(self.number)[chosen])

    def describe(self, indices: Sequence[int] | np.ndarray, most: int = 5) -> str:
        """The rows in a message: "train.csv, lines 4, 9 and 30 more"."""
        shown = [int(index) for index in indices[:most]]
        parts = []
        for source in dict.fromkeys(int(self.source[index]) for index in shown):
            name, unit = self.sources[source]
            numbers = [str(self.number[index]) for index in shown if self.source[index] == source]
            parts.append(f"{name}, {unit}{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}")
        rest = len(indices) - len(shown)
        return "; ".join(parts) + (f" and {rest:,} more" if rest else "")


def is_missing(value: Any) -> bool:
    """Whether a raw value is missing: None, NaN (which pandas writes), or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def labels_text(labels: int, rows: int) -> str:
    """What labels are of: rows, or the tokens that a model decides on in each."""
    return f"{rows:,} rows" if labels == rows else f"{labels:,} tokens of {rows:,} rows"


def rows_text(count: int) -> str:
    """The number of rows in a message: "1 row", "1,200 rows"."""
    return f"{count:,} row{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class RawSplit:
    """One split as it was read."""

    name: str  # for messages: a file, or "the train split of REPO"
    columns: Mapping[str, Sequence[Any]]  # values by column, all of the same length; may be read lazily
    places: Places
    # Names that the source declares for integer columns (and for lists of integers).
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # for the user, what was done to values while they were read

    def __len__(self) -> int:
        return len(self.places.number)

    def take(self, rows: Sequence[int] | np.ndarray) -> RawSplit:
        """The rows of these indices, in their order."""
        columns = {
            name: values.take(rows) if isinstance(values, Texts) else [values[row] for row in rows]
            for name, values in self.columns.items()
        }
        return RawSplit(self.name, columns, self.places.take(rows), self.class_names)


class LazyColumns(Mapping[str, Sequence[Any]]):
    """Columns of a `datasets.Dataset`, converted to lists on first access; texts of many rows stay in its table."""

    def __init__(self, rows: Dataset) -> None:
        self._rows = rows
        self._read: dict[str, Sequence[Any]] = {}

    def __getitem__(self, name: str) -> Sequence[Any]:
        if name not in self._rows.column_names:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = self._texts(name) or list(self._rows[name][:])
        return self._read[name]

    def _texts(self, name: str) -> Texts | None:
        feature = self._rows.features[name]
        if len(self._rows) <= MANY_ROWS or getattr(feature, "dtype", None) != "string":
            return None
        return Texts(self._rows.select_columns([name]).with_format("arrow")[:][name])

    def stream(self, name: str) -> Iterator[Any]:
        """A column's values one after the other, without keeping them."""
        for batch in self._rows.select_columns([name]).iter(1000):
            yield from batch[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows.column_names)

    def __len__(self) -> int:
        return len(self._rows.column_names)


def from_arrow(rows: Dataset, name: str) -> RawSplit:
    """A split from a `datasets.Dataset`, with the class names that its features declare."""
    declared = {}
    for column, feature in rows.features.items():
        # For lists of classes the inner feature declares them.
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            declared[column] = tuple(str(each) for each in names)
    return RawSplit(name, LazyColumns(rows), Places.of(name, "row", range(1, len(rows) + 1)), declared)


def numbers(rows: Dataset, column: str) -> np.ndarray:
    """A column of numbers or flags, not by way of Python's."""
    found: np.ndarray = rows.select_columns([column]).with_format("arrow")[:][column].to_numpy()
    return found
