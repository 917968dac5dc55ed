"""JSON Lines as a stream: of a file that is larger than memory, too."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from resparse.json_text import JsonError, parse_json, whole_characters
from resparse.squad_json import is_squad
from sparseml.data.column_values import ColumnValues
from sparseml.data.rows import Places, RawSplit, rows_text

ESCAPE: Final = "\\u"
"""Without it, JSON holds no half of a surrogate pair."""


def read_json_lines(path: Path) -> RawSplit | None:
    """A file of an object a line; keys that a row lacks become None.

    None where a line is anything else or damaged, or the first one is a whole file of SQuAD: what reads the file at
    once knows what to do, or what to say.
    """
    columns: dict[str, ColumnValues] = {}
    numbers = array("q")
    halves: list[int] = []
    with ExitStack() as tables, path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = parse_json(line)
                if not isinstance(row, dict) or (not numbers and is_squad(row)):
                    return None
                if ESCAPE in line and (whole := whole_characters(row)) is not row:
                    row = whole
                    halves.append(len(numbers))
                for name in [name for name in row if name not in columns]:
                    columns[name] = tables.enter_context(ColumnValues())
                    for _ in numbers:
                        columns[name].append(None)
                for name, column in columns.items():
                    column.append(row.get(name))
                numbers.append(number)
        except (JsonError, UnicodeDecodeError):
            return None
        if not numbers:
            return None
        values = {name: column.finish() for name, column in columns.items()}
    places = Places.of(str(path), "line", numbers)
    return RawSplit(str(path), values, places, notes=halves_note(places, halves))


def halves_note(places: Places, rows: Sequence[int]) -> tuple[str, ...]:
    """What is said of rows with half of a surrogate pair, if there are any."""
    if not rows:
        return ()
    what = (
        f"{rows_text(len(rows))} with half of a surrogate pair, which is no character: U+FFFD stands for it"
    )
    return (f"{what} ({places.describe(rows, most=3)})",)
