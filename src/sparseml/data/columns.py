"""Which columns hold the text and the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from resparse.column_names import PAIRS, TEXTS, by_name
from resparse.errors import did_you_mean
from sparseml.data.errors import DataError
from sparseml.data.label_values import companion_columns
from sparseml.data.looks import is_identifier, look_at
from sparseml.data.rows import RawSplit
from sparseml.data.tasks import Task

LABELS = (
    "label",
    "labels",
    "target",
    "class",
    "category",
    "sentiment",
    "gold_label",
    "coarse_label",
    "label-coarse",
    "emotion",
    "emotions",
    "intent",
    "topic",
    "rating",
    "stars",
    "score",
    "polarity",
)
_SHOWN = 4


@dataclass(frozen=True)
class Columns:
    """The columns in use.

    Attributes:
        first: the text, or the first of two.
        second: the second text of a pair.
        label: None where there are no labels (prediction only).
    """

    first: str
    second: str | None
    label: str | None

    @property
    def texts(self) -> tuple[str, ...]:
        """The one or two text columns."""
        return (self.first,) if self.second is None else (self.first, self.second)


def choose_label_column(
    splits: Sequence[RawSplit], wanted: str | None, required: bool
) -> tuple[str | None, list[str]]:
    """The label column, and notes where it was chosen.

    Args:
        splits: the one that decides first; those that need labels all have to have the column.
        wanted: what the user said; None, and "label" where there is no such column, choose a usual name, or else
            the only column of few values that come again and again.
        required: whether a dataset without labels is an error.

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
    raise DataError(_missing(splits[0], wanted, "--label_column_name"))


def choose_text_columns(
    split: RawSplit, wanted: str | None, label: str | None, task: Task | None
) -> tuple[tuple[str, ...], list[str]]:
    """The one or two text columns, and a note that says which and why.

    In this order: what the user said, the task's, a usual pair, a usual single column, what looks like text: the
    column of the longest texts, and another one with it where its texts are about as long.

    Raises:
        DataError: a named column does not exist, more than two are named, or no column holds text.
    """
    available = list(split.columns)
    if wanted is not None:
        return _named(split, wanted), []
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
    """Check that a further split has the columns, too.

    Raises:
        DataError: it lacks one, with near names.
    """
    for column in columns:
        if column not in split.columns:
            raise DataError(_missing(split, column, option))


def _named(split: RawSplit, wanted: str) -> tuple[str, ...]:
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
        look_at(split, name).look not in ("number", "date", "list")
    )


def _texts_by_content(split: RawSplit, label: str | None) -> tuple[tuple[str, ...], str]:
    """The column of the longest texts, with the next one of more than half that length; and why."""
    excluded = {label, *(companion_columns(label, list(split.columns)) if label else ())}
    candidates = [name for name in split.columns if name not in excluded and not is_identifier(name)]
    looks = [look_at(split, name) for name in candidates if _holds_strings(split, name)]
    texts = [column for column in looks if column.look == "text"] or looks
    longest = max((column.words for column in texts), default=0.0)
    chosen = tuple(column.name for column in texts if column.words > 0.5 * longest)[:2]
    if len(chosen) > 1:
        return chosen, "read as a pair: their texts are of like length"
    return chosen, "the only one that holds text" if len(texts) == 1 else "whose texts are the longest"


def _label_by_content(split: RawSplit) -> tuple[str, list[str]]:
    """The only column of few values that come again and again.

    Raises:
        DataError: there is none, or several; names them.
    """
    looks = [look_at(split, name) for name in split.columns]
    choices = [column for column in looks if column.look == "choice" and column.distinct > 1]
    if any(column.name in map(str, islice(split.columns[column.name], 1000)) for column in choices):
        raise DataError(
            f"{split.name}: its first line, {', '.join(map(repr, list(split.columns)[:_SHOWN]))}, seems to be a row "
            "and no header. Write a line with the columns' names above it, such as text,label."
        )
    if len(choices) == 1:
        column = choices[0]
        return column.name, [
            f"label column: {column.name!r}, the only one of few values ({column.distinct}) that come again and again "
            "(--label_column_name chooses another)"
        ]
    if not choices:
        raise DataError(_missing(split, "label", "--label_column_name"))
    shown = ", ".join(f"{column.name!r} ({column.distinct} different values)" for column in choices)
    raise DataError(
        f"{split.name}: several columns could be the label: {shown}. Say which with --label_column_name."
    )


def _missing(split: RawSplit, column: str, option: str) -> str:
    available = list(split.columns)
    hint = did_you_mean(column, available)
    listed = "" if hint.startswith("Known") else f" Columns: {', '.join(available)}."
    headerless = " Does the file lack its header line?" if any(" " in name for name in available) else ""
    return f"{split.name}: there is no column {column!r} ({option}). {hint}{listed}{headerless}"
