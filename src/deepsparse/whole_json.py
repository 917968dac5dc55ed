"""Rows of a JSON file that is one value: an array of objects, or questions in the form of SQuAD."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from deepsparse.rows import BadRow, Place, Row, Source, TableError
from resparse.json_text import JsonError, parse_json, whole_characters
from resparse.squad_json import is_squad, questions, squad_file

_LONGEST_LINE: Final = 64 * 1024 * 1024  # bytes; a longer first line is taken for a whole file


class WholeJson:
    """A table of such a file, which is in memory as a whole.

    Its places are not those of the rows' bytes, which parsing does not tell: row i of n begins at the i-th of n equal
    parts of the file.
    """

    def __init__(self, path: Source, values: list[Any], size: int) -> None:
        self._values, self._size = values, size
        self.start = Place(0, 1)
        first = next((value for value in values if isinstance(value, dict)), None)
        if first is None:
            raise TableError(f'{path}: it holds no JSON object such as {{"text": "..."}}.')
        self.columns = list(first)

    def rows(self, place: Place) -> Iterator[Row | BadRow]:
        for number in range(place.line, len(self._values) + 1):
            value, after = self._values[number - 1], self._after(number)
            raw = json.dumps(whole_characters(value), ensure_ascii=False)
            if isinstance(value, dict):
                yield Row(number, after, value, raw)
            else:
                yield BadRow(number, after, "not a JSON object", raw)

    def ends(self, place: Place) -> Iterator[Place]:
        """Where each row ends, from `place` on."""
        return map(self._after, range(place.line, len(self._values) + 1))

    def _after(self, number: int) -> Place:
        return Place(self._size * number // len(self._values), number + 1)


def whole_json(path: Source) -> WholeJson | None:
    """The table of a file that is one JSON value; None where it is none, as JSON Lines are none.

    Raises:
        TableError: an array that cannot be read, or holds no object; questions in another form.
    """
    with path.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
        if _is_row(first):
            return None  # lines, which need not be in memory
        data = first + file.read()
    try:
        text = data.decode("utf-8-sig")
        if text.lstrip().startswith("["):
            return WholeJson(path, parse_json(text), len(data))
    except UnicodeDecodeError:
        return None  # what reads lines tells which ones
    except JsonError as error:
        raise TableError(f"{path}: not JSON: {error}.") from error
    squad = squad_file(text)
    if squad is None:
        return None
    try:
        return WholeJson(path, questions(squad, str(path)), len(data))
    except JsonError as error:
        raise TableError(error.reason) from error


def _is_row(line: bytes) -> bool:
    with suppress(UnicodeDecodeError, JsonError):
        value = parse_json(line.decode("utf-8-sig"))
        return isinstance(value, dict) and not is_squad(value)
    return False
