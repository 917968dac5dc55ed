"""Tables of any number of rows: in memory while they are small, and then in a file that is mapped, not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np

from resparse.files import WriteError, temporary_folder
from sparsezoo.common import cache_folder

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

MOST_BYTES: Final = 8 << 20
"""What a table may hold in memory."""
_AT_ONCE: Final = 2000  # values that are made Python's at once


class GrowingTable:
    """An Arrow table that is written in parts; to be used in a `with` block.

    Above `MOST_BYTES` it is in a file of the zoo's cache. That has no name any more when the block ends (on Windows,
    the next one removes it), and its space is free when nobody holds the table.
    """

    def __init__(self) -> None:
        self._parts: list[pyarrow.Table] = []
        self._bytes = 0
        self._path: Any = None
        self._writer: Any = None
        self._open = ExitStack()

    def __enter__(self) -> GrowingTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def write(self, part: pyarrow.Table) -> None:
        """Append rows; all parts have the first one's schema.

        Raises:
            WriteError: the zoo's cache cannot be written.
        """
        self._parts.append(part)
        self._bytes += part.nbytes
        if self._writer is not None or self._bytes > MOST_BYTES:
            try:
                self._spill()
            except OSError as error:
                raise WriteError(
                    f"Could not write to {cache_folder('rows')}, where many rows are kept while they are prepared: "
                    f"{error.strerror or error}. SPARSEZOO_HOME names another place."
                ) from error

    def finish(self) -> pyarrow.Table:
        """The whole table; nothing is written after it.

        Raises:
            ValueError: nothing was written.
        """
        import pyarrow

        if self._writer is None:
            return pyarrow.concat_tables(self._parts)
        self._writer.close()
        with pyarrow.memory_map(str(self._path)) as file:
            return pyarrow.ipc.open_file(file).read_all()

    def _spill(self) -> None:
        import pyarrow

        if self._writer is None:
            folder = self._open.enter_context(temporary_folder(cache_folder("rows", "table")))
            self._path = folder / "table.arrow"
            self._writer = self._open.enter_context(
                pyarrow.ipc.new_file(str(self._path), self._parts[0].schema)
            )
        for part in self._parts:
            self._writer.write_table(part)
        self._parts = []


def dataset_of(table: pyarrow.Table) -> Dataset:
    """A table as a `datasets.Dataset`, whose name for its content is drawn: that would be a hash over a copy of it."""
    from datasets import Dataset
    from datasets.fingerprint import generate_random_fingerprint

    return Dataset(table, fingerprint=generate_random_fingerprint())


class Texts(Sequence[Any]):
    """A column of texts, None where one is missing, that stays in an Arrow table, and in its order or another one.

    Args:
        column: a `pyarrow.ChunkedArray` of strings.
        rows: which of its rows, in their order; by default all.
    """

    def __init__(self, column: Any, rows: np.ndarray | None = None) -> None:
        self._column = column
        self._rows = rows
        self._starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])

    @classmethod
    def joined(cls, parts: Sequence[Sequence[Any]]) -> Texts:
        """The texts of several columns, one after the other."""
        import pyarrow

        columns = [
            part.column() if isinstance(part, Texts) else pyarrow.array(part, pyarrow.string())
            for part in parts
        ]
        chunks = [
            chunk.cast(pyarrow.string())
            for column in columns
            for chunk in (column.chunks if isinstance(column, pyarrow.ChunkedArray) else [column])
        ]
        return cls(pyarrow.chunked_array(chunks, pyarrow.string()))

    def column(self) -> Any:
        """As a `pyarrow.ChunkedArray`; a copy where the order is another one."""
        return self._column if self._rows is None else self._column.take(self._rows)

    def take(self, rows: Sequence[int] | np.ndarray) -> Texts:
        """Those of these rows."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Texts(self._column, chosen if self._rows is None else self._rows[chosen])

    def filled(self) -> Texts:
        """With "" where one is missing."""
        return Texts(self._column.fill_null(""), self._rows) if self._column.null_count else self

    def __len__(self) -> int:
        return len(self._column) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return self._values(*place.indices(len(self)))
        row = range(len(self))[place] if self._rows is None else int(self._rows[place])
        chunk = int(np.searchsorted(self._starts, row, "right")) - 1
        return self._column.chunk(chunk)[row - int(self._starts[chunk])].as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._values(start, min(start + _AT_ONCE, len(self)), 1)

    def _values(self, start: int, stop: int, step: int) -> list[Any]:
        if self._rows is None and step == 1:
            found: list[Any] = self._column.slice(start, stop - start).to_pylist()
            return found
        return [self[row] for row in range(start, stop, step)]
