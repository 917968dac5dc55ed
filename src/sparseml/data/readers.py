"""Local data files: found by path or pattern, and read as CSV, TSV, JSON or Parquet with errors that name the line."""

from __future__ import annotations

import csv
import json
import sys
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from resparse.column_names import header_names
from resparse.delimited import are_rows_of_tabs, delimiter_of
from resparse.errors import nearest
from resparse.json_text import JsonError, parse_json, whole_characters
from resparse.squad_json import questions, squad_file
from sparseml.data.column_values import ColumnValues
from sparseml.data.conll import ENDINGS, read_columns
from sparseml.data.growing_table import GrowingTable, Texts, dataset_of
from sparseml.data.json_lines import ESCAPE, halves_note, read_json_lines
from sparseml.data.patterns import matching_files, split_names
from sparseml.data.rows import MANY_ROWS, DataError, Places, RawSplit, from_arrow

# The csv module's limit on the length of a field is global.
_field_limit_lock = threading.Lock()
_OBJECT_A_LINE = (".jsonl", ".ndjson")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_JSON_EXAMPLE = '{"text": "...", "label": ...}'


def read_files(pattern: str, option: str) -> RawSplit:
    """Read the files of an option such as `--train_file`: a path, a glob pattern, or several with commas between."""
    return concatenate([read_file(path) for path in expand_pattern(pattern, option)], pattern)


def read_file(path: Path) -> RawSplit:
    """Read one file by its ending; a DataError where that is unknown, or the file is empty or damaged."""
    ending = path.suffix.lower()
    reader = READERS.get(ending) or COLUMN_READERS.get(ending)
    if reader is None:
        raise DataError(f"{path}: the ending {path.suffix!r} is not one of {', '.join(READERS)}.")
    try:
        split = reader(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not len(split):
        raise DataError(f"{path}: the file has no rows.")
    return split


def expand_pattern(pattern: str, option: str) -> list[Path]:
    """The files that a path, a glob pattern, or a comma-separated list of these stands for."""
    return [path for name in split_names(pattern) for path in _named_files(name, option)]


def _named_files(name: str, option: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        raise DataError(f"{option} {name}: this is a folder. Give a file, or the folder as --dataset_name.")
    matches = matching_files(name)
    if not matches:
        raise DataError(f"{option} {name}: {_not_found_message(path)}")
    return matches


def concatenate(parts: Sequence[RawSplit], name: str) -> RawSplit:
    """Join the rows of several files with the same columns."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for part in parts[1:]:
        if set(part.columns) != set(first.columns):
            raise DataError(
                f"{part.name} has the columns {', '.join(part.columns)}, but {first.name} has "
                f"{', '.join(first.columns)}. Files of one split need the same columns."
            )
        if part.class_names != first.class_names:
            raise DataError(f"{part.name} and {first.name} declare different class names.")
    columns = {column: _joined([part.columns[column] for part in parts]) for column in first.columns}
    places = Places.concatenate([part.places for part in parts])
    notes = tuple(note for part in parts for note in part.notes)
    return RawSplit(name, columns, places, first.class_names, notes)


def _joined(parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if any(isinstance(part, Texts) for part in parts) and all(map(_is_text, parts)):
        return Texts.joined(parts)
    return [value for part in parts for value in part]


def _is_text(values: Sequence[Any]) -> bool:
    return isinstance(values, Texts) or all(value is None or isinstance(value, str) for value in values)


def _not_found_message(path: Path) -> str:
    if any(character in str(path) for character in "*?["):
        return "no file matches this pattern."
    if not path.parent.is_dir():
        return f"there is no such file, and no folder {path.parent}."
    near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    hint = f" Did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""
    return f"there is no such file.{hint}"


def read_delimited(path: Path) -> RawSplit:
    """Read a CSV or TSV file with a header line.

    The delimiter is the comma (the tab for `.tsv`); where the header has none, `;`, tab or `|`. A TSV file whose quotes
    do not pair, or would make one row of several, is read without quoting, as GLUE's own files are.

    Raises:
        DataError: no header, or a row with more or fewer fields than the header, with its line.
    """
    try:
        header = _header(path)
        if path.suffix.lower() != ".tsv":
            return _parse_delimited(path, delimiter_of(path.suffix, header), quoted=True)
        try:
            return _parse_delimited(path, "\t", quoted=True)
        except DataError:
            return _parse_delimited(path, "\t", quoted=False)
    except UnicodeDecodeError:
        _decode(path)  # which says where
        raise


def read_header(path: Path) -> RawSplit:
    """The columns of a CSV or TSV file, without its rows; errors as of `read_delimited`."""
    line = _header(path)
    delimiter = delimiter_of(path.suffix, line)
    names = _column_names(path, next(csv.reader([line], delimiter=delimiter), []))
    return RawSplit(str(path), dict.fromkeys(names, ()), Places.of(str(path), "line", ()))


def _header(path: Path) -> str:
    """The first line that is not empty; a DataError where there is none."""
    with path.open("rb") as opened:
        is_utf16 = opened.read(2) in _UTF16
    if not is_utf16:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in file:
                if line.strip():
                    return line.lstrip("\r\n").partition("\n")[0]
    _decode(path)
    raise AssertionError(f"{path} was written while it was read")


def _parse_delimited(path: Path, delimiter: str, quoted: bool) -> RawSplit:
    # The file is read as a stream: of its columns, what repeats (labels) is held once, and many texts are on the disk.
    header: list[str] | None = None
    ragged: tuple[int, list[str]] | None = None
    columns: list[ColumnValues] = []
    lines = array("q")
    start = 1
    record: list[str] = []
    # Documents may be longer than the default limit on a field.
    with ExitStack() as tables, _field_limit_lock, path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            _remembered(file, record) if delimiter == "\t" else file,
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=True,
        )
        previous = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        try:
            for row in reader:
                if header is None:
                    header = row or None
                    columns = [tables.enter_context(ColumnValues()) for _ in row]
                elif delimiter == "\t" and are_rows_of_tabs(record, len(columns)):
                    raise csv.Error("the quotes of several rows make one row of them")
                elif len(row) == len(columns):
                    for column, value in zip(columns, row, strict=True):
                        column.append(value)
                    lines.append(start)
                elif row and ragged is None:
                    ragged = (start, row)
                start = reader.line_num + 1
                record.clear()
        except csv.Error as error:
            raise DataError(_csv_message(path, start, str(error))) from error
        finally:
            csv.field_size_limit(previous)
        names = _column_names(path, header or [])
        if ragged is not None:
            raise DataError(_field_count_message(path, *ragged, names, delimiter))
        values = {name: column.finish() for name, column in zip(names, columns, strict=True)}
    return RawSplit(str(path), values, Places.of(str(path), "line", lines))


def _remembered(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """The lines, each also added to the record that they are of, which the caller clears."""
    for line in lines:
        record.append(line)
        yield line


def _column_names(path: Path, row: list[str]) -> list[str]:
    names = header_names(row)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: the header names {', '.join(map(repr, twice))} more than once.")
    return names


def _field_count_message(path: Path, line: int, row: list[str], names: list[str], delimiter: str) -> str:
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


def _csv_message(path: Path, line: int, reason: str) -> str:
    if "unexpected end of data" in reason:
        return f"{path}, line {line}: a double quote opens here and never closes. Was the file cut?"
    if "expected after" in reason:
        return (
            f"{path}, line {line}: text follows a closing double quote. A double quote within a quoted "
            'text has to be doubled ("").'
        )
    return f"{path}, line {line}: {reason}."


def read_json(path: Path) -> RawSplit:
    """Read a JSON array, JSON Lines or a file of SQuAD; keys that a row lacks become None.

    Errors name the line, item or question.
    """
    if path.suffix.lower() in _OBJECT_A_LINE and (found := read_json_lines(path)) is not None:
        return found
    text = _decode(path)
    if text.lstrip().startswith("["):
        rows, numbers, unit = _json_array(path, text)
    elif (whole := squad_file(text)) is not None:
        try:
            rows = questions(whole, str(path))
        except JsonError as error:
            raise DataError(error.reason) from error
        numbers, unit = list(range(1, len(rows) + 1)), "question"
    else:
        rows, numbers, unit = _json_lines(path, text)
    halves: list[int] = []
    if ESCAPE in text:
        whole_rows = [whole_characters(row) for row in rows]
        halves = [place for place, row in enumerate(rows) if whole_rows[place] is not row]
        rows = whole_rows
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    places = Places.of(str(path), unit, numbers)
    return RawSplit(str(path), columns, places, notes=halves_note(places, halves))


def _json_array(path: Path, text: str) -> tuple[list[dict[str, Any]], list[int], str]:
    try:
        rows = parse_json(text)
    except JsonError as error:
        place = f", line {error.line}, column {error.column}" if error.line else ""
        raise DataError(f"{path}{place}: not JSON: {error.reason}.") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, item {number}: {_excerpt(row)} is not an object such as {_JSON_EXAMPLE}."
            )
    return rows, list(range(1, len(rows) + 1)), "item"


def _json_lines(path: Path, text: str) -> tuple[list[dict[str, Any]], list[int], str]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except JsonError as error:
            with suppress(JsonError):
                parse_json(text)
                raise DataError(
                    f"{path}: the file is one JSON object. Wanted is an array of objects, or one object a "
                    f"line, such as {_JSON_EXAMPLE} (in pandas: to_json(path, orient='records', lines=True))."
                ) from error
            column = f", column {error.column}" if error.column else ""
            raise DataError(f"{path}, line {number}{column}: not JSON: {error.reason}.") from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number}: {_excerpt(row)} is not an object such as {_JSON_EXAMPLE}."
            )
        rows.append(row)
        numbers.append(number)
    return rows, numbers, "line"


def _lines(text: str) -> Iterator[str]:
    """The lines, one at a time; not splitlines(), which also breaks at characters that a JSON string may hold."""
    begin = 0
    while (end := text.find("\n", begin)) >= 0:
        yield text[begin:end]
        begin = end + 1
    yield text[begin:]


def _excerpt(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_parquet(path: Path) -> RawSplit:
    """Read a Parquet file; class names that `datasets` wrote into its schema are kept."""
    import pyarrow.parquet
    from datasets import Features

    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty.")
    try:
        with GrowingTable() as rows_of_file, pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(MANY_ROWS):
                rows_of_file.write(pyarrow.Table.from_batches([batch]))
            table = rows_of_file.finish() if file.metadata.num_rows else file.read()
        features = Features.from_arrow_schema(table.schema)
        rows = dataset_of(table.cast(features.arrow_schema) if table.schema.metadata else table)
        return from_arrow(rows, str(path))
    # Damaged names and metadata raise whatever the code that meets them raises.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: this is not a whole Parquet file ({reason}).") from error


def _decode(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark."""
    data = path.read_bytes()
    if data.startswith(_UTF16):
        raise DataError(f"{path}: the file is UTF-16, not UTF-8. {_conversion(path, 'UTF-16')}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind a byte-order mark.
        position = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, position) + 1
        byte = position - data.rfind(b"\n", 0, position)
        raise DataError(
            f"{path}, line {line}, byte {byte} of the line: 0x{data[position]:02x} is not UTF-8. "
            f"{_conversion(path, 'WINDOWS-1252')}"
        ) from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty.")
    return text


def _conversion(path: Path, encoding: str) -> str:
    target = path.with_name(f"{path.stem}-utf8{path.suffix}")
    return f"Convert it, for instance: iconv -f {encoding} -t UTF-8 '{path}' > '{target}'"


READERS: dict[str, Callable[[Path], RawSplit]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".parquet": read_parquet,
}

# Of tagged words; in folders and for other tasks a text file is no data file.
COLUMN_READERS: dict[str, Callable[[Path], RawSplit]] = dict.fromkeys(
    ENDINGS, lambda path: read_columns(path, _decode(path))
)
