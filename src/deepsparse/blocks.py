"""Blocks of rows of many files: cut where records end, read, scored, and written as one Parquet file each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice, takewhile
from typing import Any, Final

import pyarrow
import pyarrow.parquet

from deepsparse.pipeline import WINDOW
from deepsparse.remote_files import File, Folder
from deepsparse.rows import BadRow, Place, Row, TableError
from deepsparse.scorer import Scorer
from deepsparse.tables import Table, open_table

TEXT_ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
ENDINGS: Final = (".parquet", ".pq", *TEXT_ENDINGS)

_SAMPLE = 10_000
"""Rows of JSON Lines by which the types of their columns are told."""

_ROW_GROUP = 65_536
_SHOWN = 5
_ABOUT: Final = b"resparse"


@dataclass(frozen=True)
class Block:
    """Some successive rows of a file.

    Attributes:
        file: that they are in.
        name: of the file that their predictions go to.
        begin, end: rows of a Parquet file, bytes of another.
        line: of a text file, the one that it begins with.
        size: its share of the file's bytes.
    """

    file: File
    name: str
    begin: int
    end: int
    line: int
    size: int


@dataclass
class Outcome:
    """What became of a block's rows; kept in the file that was written.

    Attributes:
        reasons: why rows have no prediction, the first few.
        seconds: that it took.
    """

    labelled: int = 0
    refused: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.labelled += other.labelled
        self.refused += other.refused
        self.seconds += other.seconds
        self.reasons = [*self.reasons, *other.reasons][:_SHOWN]


def read_schema(files: Sequence[File]) -> pyarrow.Schema:
    """The columns that all files have, with their types.

    Those of CSV are strings. Those of JSON Lines are told by the first rows: true and false, whole numbers, numbers,
    strings; a column of anything else holds its JSON as a string.

    Raises:
        TableError: a file cannot be read, or has other columns than the first.
    """
    with ThreadPoolExecutor(16) as threads:
        schemas = list(threads.map(_schema, files))
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        if _is_json(file) and _is_json(files[0]):
            continue  # each row is fitted into the columns of the first file
        if not schema.equals(first):
            raise TableError(
                f"{file} has the columns {_said(schema)}, but {files[0]} has {_said(first)}. Files that are read "
                "together need the same columns: give them one after the other, each with an --output of its own."
            )
    return first


def plan(files: Sequence[File], rows: int) -> Iterator[Block]:
    """The blocks of the files, in their order; the same whenever the files are.

    Args:
        rows: of a block at most.
    """
    for index, file in enumerate(files):
        cuts = _parquet_cuts(file, rows) if _is_parquet(file) else _text_cuts(file, rows)
        for number, (begin, end, line, size) in enumerate(cuts):
            yield Block(file, f"part-{index:05}-{number:06}.parquet", begin, end, line, size)


def score_block(scorer: Scorer, block: Block, schema: pyarrow.Schema, folder: Folder) -> Outcome:
    """Write a block's rows with their predictions to a file of its name; the file is there whole, or not at all.

    Rows keep their order and number. One that cannot be read, or holds nothing to score, has the reason in the column
    `prediction_error`.

    Args:
        schema: of `read_schema`.

    Raises:
        TableError, ModelError: see `Scorer`.
        WriteError: the folder cannot be written to.
    """
    started = time.perf_counter()
    wanted = scorer.find_columns(schema.names)
    outcome = Outcome()
    whole = _with_fields(schema, scorer)
    with folder.whole(block.name) as path, pyarrow.parquet.ParquetWriter(path, whole) as writer:
        waiting: list[pyarrow.Table] = []
        for chunk in _chunks(block, schema):
            added = scorer.score({name: chunk.inputs(name) for name in wanted}, chunk.reasons)
            columns = [pyarrow.array(values, whole.field(name).type) for name, values in added.items()]
            waiting.append(pyarrow.Table.from_arrays([*chunk.table.columns, *columns], schema=whole))
            reasons = [reason for reason in added[list(added)[-1]] if reason is not None]
            outcome.add(Outcome(len(chunk.table) - len(reasons), len(reasons), reasons=reasons[:_SHOWN]))
            if sum(map(len, waiting)) >= _ROW_GROUP:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pyarrow.concat_tables(waiting))
        outcome.seconds = time.perf_counter() - started
        writer.add_key_value_metadata({_ABOUT.decode(): json.dumps(asdict(outcome))})
    return outcome


def read_outcome(file: File) -> Outcome:
    """What `score_block` noted in a file that it wrote."""
    with file.open() as opened:
        noted = pyarrow.parquet.read_metadata(opened).metadata[_ABOUT]
    return Outcome(**json.loads(noted))


@dataclass(frozen=True)
class _Chunk:
    """Rows as they are written; `raw` are the values of text files before they are fitted into the schema's types."""

    table: pyarrow.Table
    raw: Mapping[str, list[Any]] | None = None
    reasons: list[str | None] | None = None

    def inputs(self, name: str) -> list[Any]:
        values: list[Any] = self.table[name].to_pylist() if self.raw is None else self.raw[name]
        return values


def _chunks(block: Block, schema: pyarrow.Schema) -> Iterator[_Chunk]:
    if _is_parquet(block.file):
        return map(_Chunk, _parquet_tables(block))
    return _text_chunks(block, schema)


def _parquet_cuts(file: File, rows: int) -> Iterator[tuple[int, int, int, int]]:
    with file.open() as opened:
        metadata = pyarrow.parquet.read_metadata(opened)
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    total = sum(groups)
    begin = end = 0
    for group in groups:
        # Whole row groups where they fit; one of more rows is cut.
        if end > begin and end + group - begin > rows:
            yield begin, end, 0, file.size * (end - begin) // total
            begin = end
        end += group
        while end - begin > rows:
            yield begin, begin + rows, 0, file.size * rows // total
            begin += rows
    if end > begin:
        yield begin, end, 0, file.size * (end - begin) // total


def _parquet_tables(block: Block) -> Iterator[pyarrow.Table]:
    with block.file.open() as opened, pyarrow.parquet.ParquetFile(opened) as file:
        groups: list[int] = []
        first = at = 0
        for index in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(index).num_rows
            if at + count > block.begin and at < block.end:
                first = at if not groups else first
                groups.append(index)
            at += count
        for batch in file.iter_batches(WINDOW, row_groups=groups):
            begin, end = max(block.begin, first), min(block.end, first + len(batch))
            if end > begin:
                yield pyarrow.Table.from_batches([batch.slice(begin - first, end - begin)])
            first += len(batch)


def _text_cuts(file: File, rows: int) -> Iterator[tuple[int, int, int, int]]:
    table = open_table(file)
    begin = table.start
    ends = table.ends(begin)
    while (last := _last(islice(ends, rows))) is not None:
        yield begin.byte, last.byte, begin.line, last.byte - begin.byte
        begin = last


def _last(places: Iterator[Place]) -> Place | None:
    last = None
    for last in places:  # noqa: B007
        pass
    return last


def _text_chunks(block: Block, schema: pyarrow.Schema) -> Iterator[_Chunk]:
    table = open_table(block.file)
    source = table.rows(Place(block.begin, block.line))
    rows = takewhile(lambda row: row.after.byte <= block.end, source)
    fits = {each.name: _fitting(each.type) for each in schema}
    while window := list(islice(rows, WINDOW)):
        reasons = [_reason(row, fits, block.file) for row in window]
        values = [row.values if isinstance(row, Row) else {} for row in window]
        raw = {name: [row.get(name) for row in values] for name in fits}
        fitted = [
            pyarrow.array([fit(value) for value in raw[name]], schema.field(name).type)
            for name, fit in fits.items()
        ]
        yield _Chunk(pyarrow.Table.from_arrays(fitted, schema=schema), raw, reasons)


def _reason(row: Row | BadRow, fits: Mapping[str, Any], file: File) -> str | None:
    """Why a row cannot be kept as it is; None where it can."""
    place = f"{file.name}, line {row.line}"
    if isinstance(row, BadRow):
        return f"{place}: {row.reason}"
    for name, value in row.values.items():
        if name not in fits:
            return f"{place}: a field {name!r}, which the first {_SAMPLE:,} rows lack, is left out"
        if value is not None and fits[name](value) is None:
            return f"{place}: {name!r} is {value!r:.60}, unlike in the first {_SAMPLE:,} rows; it is left out"
    return None


def _fitting(kind: pyarrow.DataType) -> Any:
    """A function from a value of JSON to one of the column's type; None where it does not fit."""
    if pyarrow.types.is_boolean(kind):
        return lambda value: value if isinstance(value, bool) else None
    if pyarrow.types.is_integer(kind):
        return lambda value: value if _is_whole(value) else None
    if pyarrow.types.is_floating(kind):
        return lambda value: float(value) if _is_whole(value) or isinstance(value, float) else None
    return lambda value: (
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def _schema(file: File) -> pyarrow.Schema:
    if _is_parquet(file):
        try:
            with file.open() as opened:
                return pyarrow.parquet.read_schema(opened)
        except (OSError, pyarrow.ArrowException) as error:
            raise TableError(f"{file}: this is not a whole Parquet file ({error}).") from error
    if file.suffix.lower() not in TEXT_ENDINGS:
        raise TableError(f"{file}: a file that ends in {', '.join(ENDINGS)} is wanted.")
    table = open_table(file)
    if not _is_json(file):
        return pyarrow.schema([(name, pyarrow.string()) for name in table.columns])
    return _json_schema(table)


def _json_schema(table: Table) -> pyarrow.Schema:
    seen: dict[str, set[type]] = {}
    for row in islice(table.rows(table.start), _SAMPLE):
        for name, value in row.values.items() if isinstance(row, Row) else ():
            is_far = isinstance(value, int) and not isinstance(value, bool) and not _is_whole(value)
            seen.setdefault(name, set()).update([] if value is None else [dict if is_far else type(value)])
    return pyarrow.schema([(name, _type(kinds)) for name, kinds in seen.items()])


def _type(kinds: set[type]) -> pyarrow.DataType:
    for some, kind in (
        ({bool}, pyarrow.bool_()),
        ({int}, pyarrow.int64()),
        ({int, float}, pyarrow.float64()),
    ):
        if kinds and kinds <= some:
            return kind
    return pyarrow.string()


def _with_fields(schema: pyarrow.Schema, scorer: Scorer) -> pyarrow.Schema:
    for name, kind in scorer.arrow_types().items():
        schema = schema.append(pyarrow.field(name, kind))
    return schema


def _is_parquet(file: File) -> bool:
    return file.suffix.lower() in (".parquet", ".pq")


def _is_json(file: File) -> bool:
    return file.suffix.lower() in TEXT_ENDINGS[2:]


def _said(schema: pyarrow.Schema) -> str:
    return ", ".join(f"{each.name} ({each.type})" for each in schema)
