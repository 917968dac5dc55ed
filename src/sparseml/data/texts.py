"""The text columns made plain strings; rows without text taken out, and said so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sparseml.data.errors import DataError
from sparseml.data.rows import RawSplit, count_rows

# More missing texts than this, and the column or the file is wrong rather than a few rows.
_MOST_MISSING = 0.2


def clean_texts(split: RawSplit, columns: Sequence[str], keep_all: bool) -> tuple[RawSplit, list[str]]:
    """Take out rows without text, and turn numbers into text.

    A row of two texts is without text when one of them is missing (None), or both are empty.

    Args:
        split: as read; columns other than the text columns are kept as they are.
        columns: the text columns.
        keep_all: keep rows without text as empty strings, so that predictions stay row by row.

    Returns:
        The split, and a note when something was done.

    Raises:
        DataError: values that are no text (lists, ...), or more than a fifth of the rows without text.
    """
    texts = {column: _strings(split, column) for column in columns}
    empty = [
        row
        for row, values in enumerate(zip(*texts.values(), strict=True))
        if None in values or not any(value.strip() for value in values)
    ]
    if len(empty) > _MOST_MISSING * len(split) and not keep_all:
        raise DataError(
            f"{split.name}: {len(empty):,} of {len(split):,} rows have no text in {' and '.join(columns)} "
            f"({split.places.describe(empty)}). Is that the text column? Choose with --input_column_names."
        )
    if keep_all or not empty:
        filled = {column: [value or "" for value in values] for column, values in texts.items()}
        notes = (
            [f"{count_rows(len(empty))} without text kept as empty ({split.places.describe(empty)})"]
            if empty
            else []
        )
        return RawSplit(
            split.name, {**_others(split, columns), **filled}, split.places, split.class_names
        ), notes
    without = set(empty)
    cleaned = take(
        RawSplit(split.name, {**_others(split, columns), **texts}, split.places, split.class_names),
        [row for row in range(len(split)) if row not in without],
    )
    return cleaned, [f"{count_rows(len(empty))} without text left out ({split.places.describe(empty)})"]


def take(split: RawSplit, rows: Sequence[int]) -> RawSplit:
    """Some of the rows of a split."""
    columns = {}
    for name in split.columns:
        values = split.columns[name]
        columns[name] = [values[row] for row in rows]
    return RawSplit(split.name, columns, split.places.take(rows), split.class_names)


def _strings(split: RawSplit, column: str) -> list[str | None]:
    values = split.columns[column]
    types = set(map(type, values))
    if types == {str}:
        return list(values)
    if not types <= {str, int, float, bool, type(None)}:
        wrong = [row for row, value in enumerate(values) if not isinstance(value, str | int | float | None)]
        raise DataError(
            f"{split.name}: column {column!r} holds {type(values[wrong[0]]).__name__} values, not text "
            f"({split.places.describe(wrong)}). Choose the text column with --input_column_names."
        )
    return [_string(value) for value in values]


def _string(value: Any) -> str | None:
    # NaN is what pandas leaves where a text is missing.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value)


def _others(split: RawSplit, columns: Sequence[str]) -> dict[str, Sequence[Any]]:
    return {name: split.columns[name] for name in split.columns if name not in columns}
