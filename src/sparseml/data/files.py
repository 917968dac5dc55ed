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
from sparseml.data.parquet import read_parquet
from sparseml.data.rows import Places, RawSplit

READERS: dict[str, Callable[[Path], RawSplit]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".parquet": read_parquet,
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
    # Path.glob takes no absolute patterns.
    found = sorted(glob.glob(str(whole), recursive=True))  # noqa: PTH207
    matches = [Path(match) for match in found if Path(match).is_file()]
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


def _absence(path: Path) -> str:
    if any(character in str(path) for character in "*?["):
        return "no file matches this pattern."
    if not path.parent.is_dir():
        return f"there is no such file, and no folder {path.parent}."
    near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    hint = f" Did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""
    return f"there is no such file.{hint}"
