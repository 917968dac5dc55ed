"""What a column seems to hold, judged by its values: for choosing text and label where names do not tell."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sparseml.data.label_values import as_number
from sparseml.data.rows import RawSplit

Look = Literal["text", "choice", "number", "date", "identifier", "list", "nothing"]

_SAMPLE = 2000
_DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ,].*)?|\d{1,2}:\d{2}(:\d{2})?"
    r"|((mon|tue|wed|thu|fri|sat|sun)\w*,? )?((jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w* \d{1,2}"
    r"|\d{1,2} (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*)\b.{0,20}",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"(unnamed: \d+|index|guid|u?uid|(.*[_-])?idx?|.*[a-z]I[dD])")
# Classes to choose among: no more than this, each in two rows or more on average, and of few words.
_MOST_CLASSES = 200
_MOST_WORDS = 6.0
_MOST_STEPS = 20


@dataclass(frozen=True)
class Column:
    """A column, as it looks.

    Attributes:
        name: of the column.
        look: what it seems to hold; "choice" is one of a few values, again and again.
        distinct: different values among those looked at.
        words: in a value, on average; 0 where the values are no strings.
    """

    name: str
    look: Look
    distinct: int
    words: float


def look_at(split: RawSplit, name: str) -> Column:
    """Judge a column by at most some thousand of its values, spread over all rows."""
    values = split.columns[name]
    step = max(1, len(values) // _SAMPLE)
    present = [value for value in values[::step] if not _missing(value)]
    if not present:
        return Column(name, "nothing", 0, 0.0)
    if any(isinstance(value, list | tuple) for value in present):
        return Column(name, "list", len({str(value) for value in present}), 0.0)
    distinct = len(set(map(str, present)))
    words = sum(len(value.split()) for value in present if isinstance(value, str)) / len(present)
    return Column(name, _look(name, present, distinct, words), distinct, words)


def is_identifier(name: str) -> bool:
    """Whether a column is called as those are that number the rows."""
    return _IDENTIFIER.fullmatch(name) is not None or _IDENTIFIER.fullmatch(name.lower()) is not None


def _look(name: str, present: Sequence[Any], distinct: int, words: float) -> Look:
    if is_identifier(name):
        return "identifier"
    repeated = distinct < len(present) and distinct <= max(2, min(_MOST_CLASSES, len(present) // 2))
    numbers = [as_number(value) if isinstance(value, str | int | float) else None for value in present]
    if None not in numbers:
        whole = all(number is not None and number.is_integer() for number in numbers)
        if whole and distinct == len(present) > 2:
            return "identifier"
        return "choice" if whole and repeated and distinct <= _MOST_STEPS else "number"
    texts = [value for value in present if isinstance(value, str)]
    dates = sum(_DATE.fullmatch(text.strip()) is not None for text in texts)
    if dates > 0.8 * len(present):
        return "date"
    if repeated and words <= _MOST_WORDS:
        return "choice"
    return "text" if words > 1.2 else "identifier"


def _missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))
