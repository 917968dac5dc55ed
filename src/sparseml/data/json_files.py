"""JSON (an array of objects) and JSON Lines (an object a line), told apart by the first character."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparseml.data.errors import DataError
from sparseml.data.rows import Places, RawSplit
from sparseml.data.text_file import decode


def read_json(path: Path) -> RawSplit:
    """Read a JSON array or JSON Lines; keys that a row lacks become None.

    Raises:
        DataError: text that does not parse, or a row that is no object, with its line or item.
    """
    text = decode(path)
    if text.lstrip().startswith("["):
        rows, numbers, unit = _array(path, text)
    else:
        rows, numbers, unit = _lines(path, text)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return RawSplit(str(path), columns, Places.of(str(path), unit, numbers))


def _array(path: Path, text: str) -> tuple[list[dict[str, Any]], list[int], str]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}."
        ) from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, item {number}: {_shown(row)} is not an object such as {_EXAMPLE}.")
    return rows, list(range(1, len(rows) + 1)), "item"


def _lines(path: Path, text: str) -> tuple[list[dict[str, Any]], list[int], str]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    # Not splitlines(): it also breaks at characters that may stand within a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if _is_json(text):
                raise DataError(
                    f"{path}: the file is one JSON object. Wanted is an array of objects, or one object a "
                    f"line, such as {_EXAMPLE} (in pandas: to_json(path, orient='records', lines=True))."
                ) from error
            raise DataError(f"{path}, line {number}, column {error.colno}: not JSON: {error.msg}.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {_shown(row)} is not an object such as {_EXAMPLE}.")
        rows.append(row)
        numbers.append(number)
    return rows, numbers, "line"


_EXAMPLE = '{"text": "...", "label": ...}'


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
