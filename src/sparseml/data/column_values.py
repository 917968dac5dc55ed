"""A column as it is read, value by value: what repeats is held once, and many texts are written to the disk."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from sparseml.data.growing_table import GrowingTable, Texts
from sparseml.data.rows import MANY_ROWS

_MOST_SHARED: Final = 5000
"""Distinct values that are shared: more than a classification has classes."""


class ColumnValues:
    """The values of a column; to be used in a `with` block.

    Equal texts are one object as long as few differ. Where many do, more than `MANY_ROWS` go to a table. Anything but a
    text, or None for a missing one, brings all of them back into a list.
    """

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._shared: dict[str, str] | None = {}
        self._only_texts = True
        self._table: GrowingTable | None = None

    def __enter__(self) -> ColumnValues:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._table is not None:
            self._table.__exit__(kind, error, trace)

    def append(self, value: Any) -> None:
        """Add the next row's."""
        if isinstance(value, str):
            if self._shared is not None:
                value = self._shared.setdefault(value, value)
                if len(self._shared) > _MOST_SHARED:
                    self._shared = None
        elif value is not None and self._only_texts:
            self._only_texts = False
            self._bring_back()
        self._values.append(value)
        if self._only_texts and self._shared is None and len(self._values) >= MANY_ROWS:
            self._put_away()

    def finish(self) -> Sequence[Any]:
        """All values; nothing is added after it."""
        if self._table is None:
            return self._values
        self._put_away()
        return Texts(self._table.finish().column(0))

    def _put_away(self) -> None:
        import pyarrow

        if self._table is None:
            self._table = GrowingTable()
        if self._values:
            self._table.write(pyarrow.table({"": pyarrow.array(self._values, pyarrow.string())}))
        self._values = []

    def _bring_back(self) -> None:
        if self._table is not None:
            self._values = [*Texts(self._table.finish().column(0)), *self._values]
            self._table.__exit__(None, None, None)
            self._table = None
