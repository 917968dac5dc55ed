"""Which columns hold the text and the label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from resparse.errors import did_you_mean
from sparseml.data.errors import DataError
from sparseml.data.label_values import companion_columns
from sparseml.data.rows import RawSplit
from sparseml.data.tasks import Task

# Pairs that datasets use, the most specific first; the first text of each is also what a model reads first.
PAIRS = (
    ("sentence1", "sentence2"),
    ("sentence_A", "sentence_B"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
)
TEXTS = ("text", "sentence", "content", "review", "tweet", "comment", "document")
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
)
_INDEX = re.compile(r"(unnamed: \d+|index|guid|u?uid|(.*[_-])?idx?)", re.IGNORECASE)


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
        wanted: what the user said; None, and "label" where there is no such column, choose a usual name.
        required: whether a dataset without labels is an error.

    Raises:
        DataError: the named column does not exist, or no usual one does.
    """
    available = list(splits[0].columns)
    if wanted in available:
        return wanted, []
    if wanted in (None, "label"):
        chosen = next((name for name in LABELS if name in available), None)
        if chosen is not None:
            return chosen, [] if chosen == "label" else [f"label column: {chosen!r} (there is no 'label')"]
    if not required:
        return None, []
    raise DataError(_missing(splits[0], wanted or "label", "--label_column_name"))


def choose_text_columns(
    split: RawSplit, wanted: str | None, label: str | None, task: Task | None
) -> tuple[tuple[str, ...], list[str]]:
    """The one or two text columns, and a note that says which and why.

    In this order: what the user said, the task's, a usual pair, a usual single column, the first one or two
    columns that hold texts with spaces.

    Raises:
        DataError: a named column does not exist, more than two are named, or no column holds text.
    """
    available = list(split.columns)
    if wanted is not None:
        return _named(split, wanted), []
    if task is not None and set(task.columns) <= set(available):
        return task.columns, []
    for pair in PAIRS:
        if set(pair) <= set(available):
            return pair, [f"input columns: {pair[0]!r} and {pair[1]!r}, a pair"]
    usual = next((name for name in TEXTS if name in available and name != label), None)
    if usual is not None:
        return (usual,), [f"input column: {usual!r}"]
    chosen = tuple(islice(_textual(split, label), 2))
    if not chosen:
        raise DataError(
            f"{split.name}: no column holds text. Columns: {', '.join(available)}. Name one with "
            "--input_column_names."
        )
    return chosen, [
        f"input column{'s' if len(chosen) > 1 else ''}: {' and '.join(map(repr, chosen))}, the first that "
        f"hold text (of {', '.join(available)}; --input_column_names chooses others)"
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


def _textual(split: RawSplit, label: str | None) -> list[str]:
    """Columns of strings that are neither label nor index nor class names; if any has spaces, only these."""
    excluded = {label, *(companion_columns(label, list(split.columns)) if label else ())}
    candidates = [name for name in split.columns if name not in excluded and not _INDEX.fullmatch(name)]
    samples = {name: [value for value in islice(split.columns[name], 1000) if value] for name in candidates}
    strings = [
        name
        for name in candidates
        if samples[name] and all(isinstance(value, str) for value in samples[name])
    ]
    return [name for name in strings if any(" " in value.strip() for value in samples[name])] or strings


def _missing(split: RawSplit, column: str, option: str) -> str:
    available = list(split.columns)
    hint = did_you_mean(column, available)
    listed = "" if hint.startswith("Known") else f" Columns: {', '.join(available)}."
    headerless = " Does the file lack its header line?" if any(" " in name for name in available) else ""
    return f"{split.name}: there is no column {column!r} ({option}). {hint}{listed}{headerless}"
