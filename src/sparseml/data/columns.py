"""The text and label columns, chosen by the user's options, by usual names, or by their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from resparse.column_names import PAIRS, TEXTS, by_name
from resparse.errors import did_you_mean
from resparse.text_columns import trained_on
from sparseml.data.known_datasets import BenchmarkTask
from sparseml.data.label_values import as_number, companion_columns
from sparseml.data.rows import DataError, RawSplit, is_missing

LABELS = (
    *("label", "labels", "target", "class", "category", "sentiment", "gold_label", "coarse_label"),
    *("label-coarse", "emotion", "emotions", "intent", "topic", "rating", "stars", "score", "polarity"),
)
_SHOWN_COLUMNS = 4

Kind = Literal["text", "categorical", "number", "date", "identifier", "list", "empty"]

_SAMPLE = 2000
_DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ,].*)?|\d{1,2}:\d{2}(:\d{2})?"
    r"|((mon|tue|wed|thu|fri|sat|sun)\w*,? )?((jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w* \d{1,2}"
    r"|\d{1,2} (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*)\b.{0,20}",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"(unnamed: \d+|index|guid|u?uid|(.*[_-])?idx?|.*[a-z]I[dD])")
# Limits of a categorical column, whose values also occur in two rows or more on average.
_MAX_CATEGORIES = 200
_MAX_CATEGORY_WORDS = 6.0
_MAX_NUMERIC_CATEGORIES = 20


@dataclass(frozen=True)
class Columns:
    """The columns in use: the text, the second text of a pair, and the label (None for prediction only)."""

    first: str
    second: str | None
    label: str | None

    @property
    def texts(self) -> tuple[str, ...]:
        """The one or two text columns."""
        return (self.first,) if self.second is None else (self.first, self.second)


@dataclass(frozen=True)
class ColumnProfile:
    """A sample of a column's values: their kind, the number of different ones, their mean number of words."""

    name: str
    kind: Kind
    distinct: int
    words: float


def choose_label_column(
    splits: Sequence[RawSplit], wanted: str | None, required: bool
) -> tuple[str | None, list[str]]:
    """The label column of the first split, and notes where it was chosen.

    For `wanted` None, and for "label" where there is no such column, that is a column of a usual name, or else the
    only categorical one.

    Raises:
        DataError: the named column does not exist; or none has a usual name, and none or several could be it.
    """
    available = list(splits[0].columns)
    if wanted in available:
        return wanted, []
    if wanted in (None, "label"):
        chosen = by_name(LABELS, available)
        if chosen is not None:
            return chosen, [] if chosen == "label" else [f"label column: {chosen!r} (there is no 'label')"]
    if not required:
        return None, []
    if wanted in (None, "label"):
        return _label_by_content(splits[0])
    raise DataError(_no_such_column(splits[0], wanted, "--label_column_name"))


def choose_text_columns(
    split: RawSplit,
    wanted: str | None,
    label: str | None,
    task: BenchmarkTask | None,
    known: Sequence[str] = (),
) -> tuple[tuple[str, ...], list[str]]:
    """The one or two text columns, and a note that says which and why.

    In this order: the user's option, the columns that the model was trained on (`known`), the benchmark task's columns,
    a usual pair of names, a usual single name, the column of the longest texts (paired with a second one where its
    texts are more than half as long).

    Raises:
        DataError: a named column does not exist, more than two are named, no column holds text, or the model was
            trained on pairs and this is one text, or the reverse.
    """
    chosen, notes = _choose_texts(split, wanted, label, task, known)
    if known and len(chosen) != len(known):
        raise DataError(
            f"{split.name}: {' and '.join(map(repr, chosen))} would be read, but the model was trained on "
            f"{trained_on(known)}. Choose with --input_column_names: {', '.join(split.columns)}."
        )
    return chosen, notes


def _choose_texts(
    split: RawSplit, wanted: str | None, label: str | None, task: BenchmarkTask | None, known: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    available = list(split.columns)
    if wanted is not None:
        return _parse_option(split, wanted), []
    if known and set(known) <= set(available):
        return tuple(known), []
    if task is not None and set(task.columns) <= set(available):
        return task.columns, []
    for usual in PAIRS:
        pair = tuple(name for text in usual if (name := by_name((text,), available)) not in (None, label))
        if len(pair) == 2:
            return pair, [f"input columns: {pair[0]!r} and {pair[1]!r}, a pair"]
    single = by_name(TEXTS, [name for name in available if name != label and _holds_strings(split, name)])
    if single is not None:
        return (single,), [f"input column: {single!r}" + ("" if single == "text" else ", by its name")]
    chosen, why = _texts_by_content(split, label)
    if not chosen:
        raise DataError(
            f"{split.name}: no column holds text. Columns: {', '.join(available)}. Name one with "
            "--input_column_names."
        )
    plural = "s" if len(chosen) > 1 else ""
    return chosen, [
        f"input column{plural}: {' and '.join(map(repr, chosen))}, {why} "
        f"(of {', '.join(available)}; --input_column_names chooses others)"
    ]


def require_columns(split: RawSplit, columns: Sequence[str], option: str) -> None:
    """Check that a split has the columns; a DataError gives the nearest names."""
    for column in columns:
        if column not in split.columns:
            raise DataError(_no_such_column(split, column, option))


def _parse_option(split: RawSplit, wanted: str) -> tuple[str, ...]:
    # A column's own name may hold a comma.
    names = (wanted,) if wanted in split.columns else tuple(part.strip() for part in wanted.split(","))
    if not 1 <= len(names) <= 2 or not all(names):
        raise DataError(f"--input_column_names {wanted!r}: give one column, or two with a comma between.")
    if len(names) == 2 and names[0] == names[1]:
        raise DataError(f"--input_column_names {wanted!r}: the two columns are the same.")
    require_columns(split, names, "--input_column_names")
    return names


def _holds_strings(split: RawSplit, name: str) -> bool:
    return any(isinstance(value, str) for value in islice(split.columns[name], 1000)) and (
        profile_column(split, name).kind not in ("number", "date", "list")
    )


def _texts_by_content(split: RawSplit, label: str | None) -> tuple[tuple[str, ...], str]:
    """The column of the longest texts, with the next one of more than half that length; and why."""
    excluded = {label, *(companion_columns(label, list(split.columns)) if label else ())}
    candidates = [name for name in split.columns if name not in excluded and not is_identifier(name)]
    profiles = [profile_column(split, name) for name in candidates if _holds_strings(split, name)]
    texts = [column for column in profiles if column.kind == "text"] or profiles
    longest = max((column.words for column in texts), default=0.0)
    chosen = tuple(column.name for column in texts if column.words > 0.5 * longest)[:2]
    if len(chosen) > 1:
        return chosen, "read as a pair: their texts are of like length"
    return chosen, "the only one that holds text" if len(texts) == 1 else "whose texts are the longest"


def _label_by_content(split: RawSplit) -> tuple[str, list[str]]:
    """The only categorical column, and a note; a DataError where there is none, or several."""
    profiles = [profile_column(split, name) for name in split.columns]
    candidates = [column for column in profiles if column.kind == "categorical" and column.distinct > 1]
    if any(column.name in map(str, islice(split.columns[column.name], 1000)) for column in candidates):
        header = ", ".join(map(repr, list(split.columns)[:_SHOWN_COLUMNS]))
        raise DataError(
            f"{split.name}: its first line, {header}, seems to be a row "
            "and no header. Write a line with the columns' names above it, such as text,label."
        )
    if len(candidates) == 1:
        column = candidates[0]
        return column.name, [
            f"label column: {column.name!r}, the only one of few values ({column.distinct}) that come again and again "
            "(--label_column_name chooses another)"
        ]
    if not candidates:
        raise DataError(_no_such_column(split, "label", "--label_column_name"))
    shown = ", ".join(f"{column.name!r} ({column.distinct} different values)" for column in candidates)
    raise DataError(
        f"{split.name}: several columns could be the label: {shown}. Say which with --label_column_name."
    )


def usual_column(split: RawSplit, asked: str | None, usual: Sequence[str], option: str, what: str) -> str:
    """The column that was asked for, or else the first that has a usual name.

    Args:
        option: the argument that asks for one.
        what: the column holds, for errors.

    Raises:
        DataError: there is none.
    """
    available = list(split.columns)
    if asked is not None:
        if asked not in available:
            raise DataError(_no_such_column(split, asked, option))
        return asked
    found = by_name(usual, available)
    if found is None:
        raise DataError(
            f"{split.name} has no column {' or '.join(map(repr, usual[:_SHOWN_COLUMNS]))}, but {', '.join(available)}: "
            f"name the one of the {what} with {option}."
        )
    return found


def _no_such_column(split: RawSplit, column: str, option: str) -> str:
    available = list(split.columns)
    hint = did_you_mean(column, available)
    listed = "" if hint.startswith("Known") else f" Columns: {', '.join(available)}."
    headerless = " Does the file lack its header line?" if any(" " in name for name in available) else ""
    return f"{split.name}: there is no column {column!r} ({option}). {hint}{listed}{headerless}"


def profile_column(split: RawSplit, name: str) -> ColumnProfile:
    """Profile a column by a sample of a few thousand values, spread over all rows."""
    values = split.columns[name]
    step = max(1, len(values) // _SAMPLE)
    present = [value for value in values[::step] if not is_missing(value)]
    if not present:
        return ColumnProfile(name, "empty", 0, 0.0)
    if any(isinstance(value, list | tuple) for value in present):
        return ColumnProfile(name, "list", len({str(value) for value in present}), 0.0)
    distinct = len(set(map(str, present)))
    words = sum(len(value.split()) for value in present if isinstance(value, str)) / len(present)
    return ColumnProfile(name, _kind_of(name, present, distinct, words), distinct, words)


def is_identifier(name: str) -> bool:
    """Whether a column's name says that it numbers the rows."""
    return _IDENTIFIER.fullmatch(name) is not None or _IDENTIFIER.fullmatch(name.lower()) is not None


def _kind_of(name: str, present: Sequence[Any], distinct: int, words: float) -> Kind:
    if is_identifier(name):
        return "identifier"
    repeated = distinct < len(present) and distinct <= max(2, min(_MAX_CATEGORIES, len(present) // 2))
    numbers = [as_number(value) if isinstance(value, str | int | float) else None for value in present]
    if None not in numbers:
        whole = all(number is not None and number.is_integer() for number in numbers)
        if whole and distinct == len(present) > 2:
            return "identifier"
        return "categorical" if whole and repeated and distinct <= _MAX_NUMERIC_CATEGORIES else "number"
    texts = [value for value in present if isinstance(value, str)]
    dates = sum(_DATE.fullmatch(text.strip()) is not None for text in texts)
    if dates > 0.8 * len(present):
        return "date"
    if repeated and words <= _MAX_CATEGORY_WORDS:
        return "categorical"
    return "text" if words > 1.2 else "identifier"
