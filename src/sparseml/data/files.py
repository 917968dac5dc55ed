"""Local data files: find them, and read each by its ending, with errors that name the line."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resparse.errors import nearest
from sparseml.data.delimited import read_delimited
from sparseml.data.errors import DataError
from sparseml.data.json_files import read_json
from sparseml.data.rows import Places, RawSplit, from_arrow

READERS: dict[str, Callable[[Path], RawSplit]] = {
    ".csv": lambda path: read_delimited(path, decode(path)),
    ".tsv": lambda path: read_delimited(path, decode(path)),
    ".json": lambda path: read_json(path, decode(path)),
    ".jsonl": lambda path: read_json(path, decode(path)),
    ".ndjson": lambda path: read_json(path, decode(path)),
    ".parquet": lambda path: read_parquet(path),
}


def read_files(pattern: str, option: str) -> RawSplit:
    """Read what an option such as `--train_file` names.

    Args:
        pattern: a path, a glob pattern, or several separated by commas.
        option: for the errors, such as "--train_file".

    Raises:
        DataError: nothing is there, or a file is empty or damaged.
    """
    paths = expand(pattern, option)
    return concatenate([read_file(path) for path in paths], pattern)


def read_file(path: Path) -> RawSplit:
    """Read one file by its ending.

    Raises:
        DataError: the ending is unknown, or the file is empty or damaged.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: the ending {path.suffix!r} is not one of {', '.join(READERS)}.")
    try:
        split = reader(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not len(split):
        raise DataError(f"{path}: the file has no rows.")
    return split


def expand(pattern: str, option: str) -> list[Path]:
    """The files that a path, a glob pattern, or a comma-separated list of these stands for."""
    whole = Path(pattern).expanduser()
    if whole.is_file():
        return [whole]
    if whole.is_dir():
        raise DataError(
            f"{option} {pattern}: this is a folder. Give a file, or the folder as --dataset_name."
        )
    if "," in pattern:
        return [path for part in pattern.split(",") if part.strip() for path in expand(part.strip(), option)]
    matches = [
        Path(match) for match in sorted(glob.glob(str(whole), recursive=True)) if Path(match).is_file()
    ]
    if not matches:
        raise DataError(f"{option} {pattern}: {_absence(whole)}")
    return matches


def concatenate(parts: Sequence[RawSplit], name: str) -> RawSplit:
    """One split out of several files with the same columns."""
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
    columns: dict[str, Sequence[Any]] = {
        column: [value for part in parts for value in part.columns[column]] for column in first.columns
    }
    return RawSplit(name, columns, Places.concatenate([part.places for part in parts]), first.class_names)


def decode(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        DataError: the file is empty, or a byte is not UTF-8: with its line and column.
    """
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: the file is UTF-16, not UTF-8. {_conversion(path, 'UTF-16')}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # After a byte-order mark the codec counts from behind it.
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


def read_parquet(path: Path) -> RawSplit:
    """Read a Parquet file; class names that `datasets` wrote into its schema are kept."""
    import pyarrow.parquet
    from datasets import Dataset, Features
    from pyarrow import ArrowException

    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty.")
    try:
        table = pyarrow.parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise DataError(
            f"{path}: this is not a whole Parquet file ({str(error).splitlines()[0]})."
        ) from error
    features = Features.from_arrow_schema(table.schema)
    rows = Dataset(table.cast(features.arrow_schema)) if table.schema.metadata else Dataset(table)
    return from_arrow(rows, str(path))


def _absence(path: Path) -> str:
    if any(character in str(path) for character in "*?["):
        return "no file matches this pattern."
    if not path.parent.is_dir():
        return f"there is no such file, and no folder {path.parent}."
    near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    hint = f" Did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""
    return f"there is no such file.{hint}"


def _conversion(path: Path, encoding: str) -> str:
    target = path.with_name(f"{path.stem}-utf8{path.suffix}")
    return f"Convert it, for instance: iconv -f {encoding} -t UTF-8 '{path}' > '{target}'"
