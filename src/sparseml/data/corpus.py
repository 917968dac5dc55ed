"""Plain text for upstream training, read as a stream: text files, compressed or not, and columns of tables."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from resparse.json_text import JsonError, parse_json, whole_characters
from sparseml.data.json_lines import ESCAPE
from sparseml.data.readers import READERS, expand_pattern
from sparseml.data.rows import DataError

TEXT_ENDINGS = (".txt", ".text", ".raw", ".md")
PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
ENDINGS = (*TEXT_ENDINGS, *PACKED, *READERS)
"""What a corpus's files may end with; a packed file's own ending stands before, as in `.txt.xz`."""

_TEXT_COLUMNS = ("text", "content", "sentence", "document")

Piece = tuple[str, bool]
"""A paragraph, and whether a document ends with it."""


def corpus_files(pattern: str, option: str) -> list[Path]:
    """The files that a path, a pattern or a comma-separated list of these stands for.

    Raises:
        DataError: there are none, or one has an unknown ending.
    """
    paths = expand_pattern(pattern, option)
    for path in paths:
        if ending(path) not in (*TEXT_ENDINGS, *READERS):
            raise DataError(
                f"{option} {path}: a corpus is text ({', '.join(TEXT_ENDINGS)}) or a table ({', '.join(READERS)}), "
                f"packed by {', '.join(PACKED)} or not; this is neither."
            )
    return paths


def read_pieces(path: Path, line_by_line: bool = False, column: str | None = None) -> Iterator[Piece]:
    """The paragraphs of a file, without reading it whole (but a .json file, which is one value).

    A line of a text file is a paragraph; a document ends at an empty line, with `line_by_line` at every line, and at
    the end of the file. A row of a table is a document.

    Args:
        column: the table's column with the text; by default one called text, or the only one of texts.

    Raises:
        DataError: the file cannot be read, is no UTF-8, or has no such column; names the file and the line.
    """
    try:
        if ending(path) in TEXT_ENDINGS:
            yield from _text_pieces(path, line_by_line)
        else:
            yield from ((text, True) for text in _table_texts(path, column))
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error


def ending(path: Path) -> str:
    """The ending that says the format, that of packing left out."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open(path: Path) -> IO[str]:
    opened = PACKED.get(path.suffix.lower(), open)
    file: IO[str] = opened(path, "rt", encoding="utf-8-sig", newline="")
    return file


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, with their ends."""
    number = 0
    with _open(path) as file:
        try:
            for line in file:
                number += 1
                yield line
        except UnicodeDecodeError as error:
            wrong = error.object[error.start]
            raise DataError(
                f"{path}: 0x{wrong:02x} somewhere after line {number:,} is not UTF-8. Convert the file, for instance: "
                f"iconv -f WINDOWS-1252 -t UTF-8"
            ) from error


def _text_pieces(path: Path, line_by_line: bool) -> Iterator[Piece]:
    held = ""
    for line in _lines(path):
        text = line.strip()
        if held:
            yield held, line_by_line or not text
        held = text
    if held:
        yield held, True


def _table_texts(path: Path, column: str | None) -> Iterator[str]:
    chosen = column
    for number, row in enumerate(_rows(path), start=1):
        if chosen is None:
            chosen = text_column(path, row)
        if chosen not in row:
            raise DataError(
                f"{path}, row {number}: no column {chosen!r}. There are: {', '.join(map(str, row))}."
            )
        if isinstance(row[chosen], str) and row[chosen].strip():
            yield row[chosen]


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    kind = ending(path)
    if path.suffix.lower() in PACKED and kind in (".parquet", ".json"):
        raise DataError(f"{path}: a {kind} file is not read from a {path.suffix} one: unpack it first.")
    if kind == ".parquet":
        return _parquet_rows(path)
    if kind in (".jsonl", ".ndjson"):
        return _json_rows(path)
    if kind == ".json":
        split = READERS[kind](path)
        return ({name: split.columns[name][row] for name in split.columns} for row in range(len(split)))
    return _csv_rows(path, "\t" if kind == ".tsv" else ",")


def _csv_rows(path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # documents may be longer than the default
    reader = csv.DictReader(_lines(path), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row:
                raise DataError(
                    f"{path}, line {reader.line_num}: more fields than the header has. A text with a {delimiter!r} in "
                    "it must stand in quotes."
                )
            yield row
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.reader.line_num}: {error}.") from error


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except JsonError as error:
            raise DataError(f"{path}, line {number}: not JSON: {error.reason}.") from error
        if not isinstance(row, dict):
            raise DataError(f'{path}, line {number}: not an object such as {{"text": "..."}}.')
        yield whole_characters(row) if ESCAPE in line else row


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1000):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: not a whole Parquet file ({reason}).") from error


def text_column(called: object, row: dict[str, Any]) -> str:
    """The column with the text, by a table's first row: one called text, or the only one of texts.

    Args:
        called: the table, for the error.

    Raises:
        DataError: there are several, or none.
    """
    for name in _TEXT_COLUMNS:
        if isinstance(row.get(name), str):
            return name
    texts = [name for name, value in row.items() if isinstance(value, str) and not value.isdecimal()]
    if len(texts) == 1:
        return texts[0]
    raise DataError(
        f"{called}: which column is the text? There are {', '.join(map(str, row))}. Name it with --input_column_names."
    )
