"""JSON from elsewhere, with one kind of error.

`json.loads` raises RecursionError for brackets within brackets, and a plain ValueError for numbers of thousands of
digits.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_HALF: Final = re.compile("[\ud800-\udfff]")


class JsonError(ValueError):
    """A text that is no JSON: why, and at which 1-based line and column, 0 where that is not known."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"line {line}, column {column}: {reason}" if line else reason)
        self.reason, self.line, self.column = reason, line, column


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        JsonError: it is none, or is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.lineno, error.colno) from error
    except ValueError as error:
        raise JsonError("a number of too many digits") from error
    except RecursionError as error:
        raise JsonError("nested too deeply") from error


def whole_characters(value: Any) -> Any:
    """A JSON value with U+FFFD, the replacement character, where a text holds half of a surrogate pair.

    JSON can write such a half ("\\ud83d"), as what cuts a text between the two halves of an emoji does. It is no
    character: no encoding has it. The value itself is returned where it has none.
    """
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value) if _HALF.search(value) else value
    if isinstance(value, list):
        items = [whole_characters(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        pairs = {whole_characters(name): whole_characters(item) for name, item in value.items()}
        same = all(new is old for new, old in zip(pairs.values(), value.values(), strict=False))
        return value if same and pairs.keys() == value.keys() else pairs
    return value
