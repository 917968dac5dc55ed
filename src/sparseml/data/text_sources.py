"""Where a corpus comes from: text files, folders of them, and datasets of the Hub; each is read as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from sparseml.data.corpus import PACKED, TEXT_ENDINGS, Piece, corpus_files, ending, read_pieces, text_column
from sparseml.data.digests import file_digest
from sparseml.data.readers import READERS
from sparseml.data.rows import DataError, LazyColumns, RawSplit
from sparseml.data.sources import SAVED, SPLIT_NAMES, DataOptions, read_source, split_of


class TextSource(Protocol):
    """Something that documents can be read from, again and again."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def size(self) -> int:
        """About how many characters it has, for a progress bar."""

    def key(self) -> str:
        """A digest of all that its pieces depend on."""

    def pieces(self) -> Iterator[Piece]:
        """Its paragraphs; a DataError where they cannot be read."""


@dataclass(frozen=True)
class FileSource:
    """A file; see `corpus.read_pieces`."""

    path: Path
    line_by_line: bool = False
    column: str | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def size(self) -> int:
        # Text is packed to about a third.
        return self.path.stat().st_size * (3 if self.path.suffix.lower() in PACKED else 1)

    def key(self) -> str:
        try:
            content = file_digest(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error}).") from error
        return f"{content} {ending(self.path)} {self.line_by_line} {self.column}"

    def pieces(self) -> Iterator[Piece]:
        return read_pieces(self.path, self.line_by_line, self.column)


@dataclass(frozen=True)
class RowsSource:
    """A split of a dataset: each row is a document."""

    split: RawSplit
    column: str | None = None

    @property
    def name(self) -> str:
        return self.split.name

    @property
    def size(self) -> int:
        some = list(islice(self._texts(), 1000))
        return sum(map(len, some)) * len(self.split) // max(len(some), 1)

    def key(self) -> str:
        digest = hashlib.sha256()
        for text in self._texts():
            digest.update(text.encode())
            digest.update(b"\0")
        return digest.hexdigest()

    def pieces(self) -> Iterator[Piece]:
        return ((text, True) for text in self._texts())

    def _texts(self) -> Iterator[str]:
        column = self._column()
        columns = self.split.columns
        values = columns.stream(column) if isinstance(columns, LazyColumns) else iter(columns[column])
        return (value for value in values if isinstance(value, str) and value.strip())

    def _column(self) -> str:
        columns = self.split.columns
        if self.column is not None and self.column not in columns:
            raise DataError(f"{self.name}: no column {self.column!r}. There are: {', '.join(columns)}.")
        if self.column is not None:
            return self.column
        lazy = isinstance(columns, LazyColumns)
        first = {
            name: next(columns.stream(name) if lazy else iter(columns[name]), None)  # type: ignore[attr-defined]
            for name in columns
        }
        return text_column(self.name, first)


Splits = dict[str, list[TextSource]]


def find_texts(options: DataOptions, line_by_line: bool = False) -> tuple[str, Splits, list[str]]:
    """The corpus that the options name.

    Returns:
        Its name; what its splits "train" and "validation" are read from, each only where there is one; notes.

    Raises:
        DataError: there is no such file, folder or dataset.
    """
    column = options.input_column_names
    files = {"train": options.train_file, "validation": options.validation_file}
    given = {split: corpus_files(pattern, f"--{split}_file") for split, pattern in files.items() if pattern}
    if given:
        first = next(iter(given.values()))[0]
        return first.name.partition(".")[0], _file_splits(given, line_by_line, column), []
    if not options.dataset_name:
        raise DataError("No text: give --train_file, such as corpus.txt, or --dataset_name.")
    folder = Path(options.dataset_name).expanduser()
    if (found := folder_files(folder / (options.dataset_config_name or ""))) is not None:
        return folder.name, _file_splits(found, line_by_line, column), [f"data: the folder {folder}"]
    source = read_source(options)
    named = {SPLIT_NAMES.get(name, name): split for name, split in source.splits.items()}
    rows: Splits = {
        name: [RowsSource(named[name], column)] for name in ("train", "validation") if name in named
    }
    if not rows:
        raise DataError(f"{source.name}: no split is called train. There are: {', '.join(named)}.")
    return source.name, rows, source.notes


def folder_files(folder: Path) -> dict[str, list[Path]] | None:
    """The files of a folder by their split, "train" where their names do not say; None where it is no such folder."""
    if not folder.is_dir() or any((folder / name).is_file() for name in SAVED):
        return None
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and ending(path) in (*TEXT_ENDINGS, *READERS):
            found.setdefault(split_of(path.relative_to(folder)) or "train", []).append(path)
    return found or None


def _file_splits(files: Mapping[str, Sequence[Path]], line_by_line: bool, column: str | None) -> Splits:
    return {
        split: [FileSource(path, line_by_line, column) for path in paths]
        for split, paths in files.items()
        if split in ("train", "validation")
    }
