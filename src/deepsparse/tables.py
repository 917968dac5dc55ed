"""CSV, TSV and JSON, row by row and of any size; a row that cannot be read does not stop the rest."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeAlias

from deepsparse.rows import BadRow, Place, Row, Source, TableError
from deepsparse.whole_json import WholeJson, whole_json
from resparse.column_names import header_names
from resparse.delimited import are_rows_of_tabs, delimiter_of
from resparse.json_text import JsonError, parse_json, whole_characters

# A quote that opens and never closes would make one record of the rest of the file.
_LONGEST_RECORD = 4 * 1024 * 1024
NOT_UTF8 = "not UTF-8 text"
"""Why a row could not be read: it is in another encoding, or damaged."""

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_DELIMITED = (".csv", ".tsv")


def open_table(path: Source) -> Table:
    """Open a table in the format of its file extension.

    Raises:
        TableError: missing, empty, of another kind, or without a header that makes sense.
    """
    if not path.is_file():
        raise TableError(f"There is no file {path}.")
    if path.suffix.lower() in _DELIMITED:
        # Values may be as long as a record; the csv module's limit is 128 KiB, and global.
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_RECORD))
        return _Delimited(path)
    if path.suffix.lower() in _JSON_LINES:
        return (whole_json(path) if path.suffix.lower() == ".json" else None) or _JsonLines(path)
    raise TableError(f"{path}: a file that ends in .csv, .tsv, .jsonl or .json is wanted.")


def writer_for(path: Path, source: Path, file: TextIO, columns: Sequence[str]) -> Writer:
    """The writer for rows of `source`, with further columns, in the format of `path`; CSV keeps its delimiter.

    Raises:
        TableError: the two are not of one kind.
    """
    wanted = _DELIMITED if source.suffix.lower() in _DELIMITED else _JSON_LINES
    if path.suffix.lower() not in wanted:
        raise TableError(
            f"{path}: rows of {source} are written to a file that ends in {' or '.join(wanted)}."
        )
    if wanted is _JSON_LINES:
        return _JsonWriter(file)
    if path.suffix.lower() == ".tsv":
        delimiter = "\t"
    else:
        delimiter = _Delimited(source).delimiter if source.suffix.lower() == ".csv" else ","
    return csv.DictWriter(file, columns, delimiter=delimiter, lineterminator="\n")


class _Delimited:
    def __init__(self, path: Source) -> None:
        self._path = path
        with path.open("rb") as file:
            first = file.readline(_LONGEST_RECORD)
            end = file.tell()
        try:
            header = first.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise TableError(f"{path} is not UTF-8 text: save it as UTF-8.") from error
        self.delimiter = delimiter_of(path.suffix, header)
        try:
            names = next(csv.reader([header], delimiter=self.delimiter), [])
        except csv.Error as error:
            raise TableError(f"{path}: its first line is no header: {_explain(str(error))}.") from error
        self.columns = header_names(names)
        if not self.columns:
            raise TableError(f"{path} has no header: its first line has to name the columns.")
        if len(set(self.columns)) < len(self.columns):
            raise TableError(f"{path}: the header names a column twice: {', '.join(self.columns)}.")
        self.start = Place(end, 2)

    def rows(self, place: Place) -> Iterator[Row | BadRow]:
        with self._path.open("rb") as file:
            file.seek(place.byte)
            line = place.line
            while (found := self._next(file, line)) is not None:
                line = found.after.line
                if found.raw.strip("\r\n"):
                    yield found

    def ends(self, place: Place) -> Iterator[Place]:
        """Where each record ends, from `place` on: those of `rows`, found without parsing most of them."""
        with self._path.open("rb") as file:
            file.seek(place.byte)
            while first := file.readline(_LONGEST_RECORD):
                after = Place(place.byte + len(first), place.line + 1)
                if b'"' in first:  # else a record is its line
                    after = self._record(first, file, place.line).after
                if first.strip(b"\r\n"):
                    yield after
                place = after

    def _next(self, file: BinaryIO, line: int) -> Row | BadRow | None:
        first = file.readline(_LONGEST_RECORD)
        return self._record(first, file, line) if first else None

    def _record(self, first: bytes, file: BinaryIO, line: int) -> Row | BadRow:
        """The record that begins with this line, or is it; of several where a quoted value holds line breaks."""
        second = Place(file.tell(), line + 1)
        taken = [first]
        try:
            fields = next(csv.reader(_lines(file, taken), delimiter=self.delimiter, strict=True), [])
            reason = None if len(fields) == len(self.columns) else self._ragged(fields)
        except csv.Error as error:
            fields, reason = [], _explain(str(error))
        except UnicodeDecodeError:
            fields, reason = [], NOT_UTF8
        if self.delimiter == "\t" and (reason is not None or self._are_rows(taken)):
            # GLUE's own files and others use tabs without any quoting.
            plain = first.decode(errors="replace").rstrip("\r\n").split("\t")
            if len(plain) == len(self.columns) and not any("�" in field for field in plain):
                fields, reason, taken = plain, None, [first]
        if reason is not None:
            # Only this line is rejected: the next may be a valid record.
            file.seek(second.byte)
            return BadRow(line, second, reason, first.decode(errors="replace").rstrip("\r\n"))
        after = Place(second.byte + sum(map(len, taken[1:])), line + len(taken))
        file.seek(after.byte)
        raw = b"".join(taken).decode()
        return Row(line, after, dict(zip(self.columns, fields, strict=True)), raw)

    def _are_rows(self, record: list[bytes]) -> bool:
        return are_rows_of_tabs([line.decode() for line in record], len(self.columns))

    def _ragged(self, fields: list[str]) -> str:
        return f"{len(fields)} field{'s' if len(fields) != 1 else ''}, but the header has {len(self.columns)}"


class _JsonLines:
    def __init__(self, path: Source) -> None:
        self._path = path
        self.start = Place(0, 1)
        first = next((row for row in self.rows(self.start) if isinstance(row, Row)), None)
        if first is None:
            raise TableError(f'{path}: no line is a JSON object such as {{"text": "..."}}.')
        self.columns = list(first.values)

    def rows(self, place: Place) -> Iterator[Row | BadRow]:
        with self._path.open("rb") as file:
            file.seek(place.byte)
            line = place.line
            while data := file.readline(_LONGEST_RECORD):
                after = Place(file.tell(), line + 1)
                raw = data.decode(errors="replace").strip()
                if raw:
                    yield _json_row(data, raw, line, after)
                line += 1

    def ends(self, place: Place) -> Iterator[Place]:
        """Where each record ends, from `place` on: those of `rows`."""
        with self._path.open("rb") as file:
            file.seek(place.byte)
            while data := file.readline(_LONGEST_RECORD):
                place = Place(place.byte + len(data), place.line + 1)
                if data.strip():
                    yield place


def _json_row(data: bytes, raw: str, line: int, after: Place) -> Row | BadRow:
    try:
        values = parse_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BadRow(line, after, NOT_UTF8, raw)
    except JsonError as error:
        return BadRow(line, after, f"not JSON: {error.reason}", raw)
    if not isinstance(values, dict):
        return BadRow(line, after, "not a JSON object", raw)
    return Row(line, after, values, raw)


class _JsonWriter:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def writeheader(self) -> None:
        """JSON Lines have none."""

    def writerow(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(whole_characters(values), ensure_ascii=False) + "\n")


Table = _Delimited | _JsonLines | WholeJson
"""A file of rows from `start` on; `columns` are their names, of JSON Lines those of the first row."""

Writer: TypeAlias = "csv.DictWriter[str] | _JsonWriter"


def _lines(file: BinaryIO, taken: list[bytes]) -> Iterator[str]:
    """The lines of one record, as the CSV reader asks for them; `taken` holds the first, and gains the rest."""
    yield taken[0].decode()
    length = len(taken[0])
    while length < _LONGEST_RECORD and (line := file.readline(_LONGEST_RECORD)):
        taken.append(line)
        length += len(line)
        yield line.decode()


def _explain(reason: str) -> str:
    if "unexpected end of data" in reason:
        return "a double quote opens and never closes"
    if "expected after" in reason:
        return "text follows a closing double quote"
    return reason
