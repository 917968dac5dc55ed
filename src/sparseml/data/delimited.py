"""CSV and TSV: every value stays the text that stands in the file, so that "007" and "NA" survive."""

from __future__ import annotations

import csv
import io
import sys
import threading
from pathlib import Path

from sparseml.data.errors import DataError
from sparseml.data.rows import Places, RawSplit
from sparseml.data.text_file import decode

_limit_lock = threading.Lock()


def read_delimited(path: Path) -> RawSplit:
    """Read a CSV or TSV file with a header line.

    The delimiter is the comma (the tab for `.tsv`); where the header has none, `;`, tab or `|`. A TSV file
    whose quotes do not pair is read without quoting, as GLUE's own files are meant.

    Raises:
        DataError: no header, or a row with more or fewer fields than the header, with its line.
    """
    text = decode(path)
    header, _, _ = text.lstrip("\r\n").partition("\n")
    if path.suffix.lower() != ".tsv":
        return _parse(path, text, _delimiter(header), quoted=True)
    try:
        return _parse(path, text, "\t", quoted=True)
    except DataError:
        return _parse(path, text, "\t", quoted=False)


def _delimiter(header: str) -> str:
    if "," in header:
        return ","
    return max(";\t|", key=header.count) if any(mark in header for mark in ";\t|") else ","


def _parse(path: Path, text: str, delimiter: str, quoted: bool) -> RawSplit:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    # The module's limit on the length of a field is global; documents may well be longer than its default.
    with _limit_lock:
        previous = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        try:
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(start)
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(_explain(path, start, str(error))) from error
        finally:
            csv.field_size_limit(previous)
    names = _header(path, rows[0])
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) != len(names):
            raise DataError(_ragged(path, line, row, names, delimiter))
    values = list(zip(*rows[1:], strict=True)) or [()] * len(names)
    return RawSplit(str(path), dict(zip(names, values, strict=True)), Places.of(str(path), "line", lines[1:]))


def _header(path: Path, row: list[str]) -> list[str]:
    # pandas writes its index under an empty name, and reads it back as "Unnamed: 0".
    names = [name.strip() or f"Unnamed: {position}" for position, name in enumerate(row)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: the header names {', '.join(map(repr, twice))} more than once.")
    return names


def _ragged(path: Path, line: int, row: list[str], names: list[str], delimiter: str) -> str:
    mark = {"\t": "tab", ",": "comma"}.get(delimiter, repr(delimiter))
    advice = (
        f"A text that holds a {mark} or a line break has to stand in double quotes."
        if len(row) > len(names)
        else "A value is missing, or the line was cut."
    )
    return (
        f"{path}, line {line}: {len(row)} field{'s' if len(row) > 1 else ''}, but the header has "
        f"{len(names)} ({', '.join(names)}). {advice}"
    )


def _explain(path: Path, line: int, reason: str) -> str:
    if "unexpected end of data" in reason:
        return f"{path}, line {line}: a double quote opens here and never closes. Was the file cut?"
    if "expected after" in reason:
        return (
            f"{path}, line {line}: text follows a closing double quote. A double quote within a quoted "
            'text has to be doubled ("").'
        )
    return f"{path}, line {line}: {reason}."
