"""JSON from elsewhere, with one kind of error.

`json.loads` raises RecursionError for brackets within brackets, and a plain ValueError for numbers of thousands of
digits.
"""

from __future__ import annotations

import json
from typing import Any


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
