"""The labels of a classifier: classes or scores, chosen from the training labels, and raw labels encoded as numbers."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from resparse import thresholds
from resparse.confidence import AS_IT_IS, Confidence
from resparse.errors import did_you_mean
from sparseml.data.known_datasets import BenchmarkTask
from sparseml.data.label_values import (
    LabelValues,
    as_number,
    class_name,
    companion_names,
    read_labels,
    spelling,
)
from sparseml.data.rows import DataError, RawSplit, rows_text

Kind = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE: Kind = "single_label_classification"
MULTI: Kind = "multi_label_classification"
REGRESSION: Kind = "regression"


class UnknownLabelError(DataError):
    """Rows with labels that the model, or the training data, do not have."""


Encoded = int | float | list[float]

# Whole numbers written as floats are classes up to this many; a rating scale with more steps is a scale.
_MAX_FLOAT_CLASSES = 20


@dataclass(frozen=True)
class Labels:
    """The outputs of a classifier or a regression."""

    kind: Kind  # as `problem_type` in a Transformers configuration
    names: tuple[str, ...]  # class names in the order of the ids; the score's name for regression
    threshold: thresholds.Threshold = (
        thresholds.DEFAULT
    )  # of several labels, those with a higher probability count
    confidence: Confidence = AS_IT_IS  # how logits become probabilities, and how high one has to be

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise DataError(
                f"Class names have to differ, but {', '.join(map(repr, twice))} stands more than once."
            )

    @property
    def num_labels(self) -> int:
        """Number of the model's outputs: one for regression."""
        return len(self.names)

    @cached_property
    def id2label(self) -> dict[int, str]:
        """Class id to class name."""
        return dict(enumerate(self.names))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """Class name to class id."""
        return {name: index for index, name in enumerate(self.names)}


@dataclass(frozen=True)
class LabelEncoder:
    """Encodes raw labels as class ids, multi-hot rows, or scores."""

    labels: Labels
    column: str  # the label column
    index: Mapping[Hashable, int]  # raw value to class id
    origin: str  # where the classes come from, for errors: "the training data", "the model",

    def encode(self, split: RawSplit) -> list[Encoded | None]:
        """Encode a split's labels (rows,); None where a row has none.

        These are class ids for a single label, `num_labels` floats of 0 and 1 for several, floats for scores.

        Raises:
            DataError: an unknown class, with counts and places; or a score that is not a number.
        """
        read = read_labels(split, self.column)
        if not read.any_present and self.labels.kind != REGRESSION:
            return [None] * len(split)
        if self.labels.kind == REGRESSION:
            return self._scores(split, read)
        if (read.family == "list") != (self.labels.kind == MULTI):
            shape = "lists of classes" if read.family == "list" else "single values"
            raise DataError(
                f"{split.name}: column {self.column!r} holds {shape}, unlike {self.origin}: one class a "
                "row and several classes a row cannot be mixed."
            )
        self._check_known(split, read.values)
        if self.labels.kind == SINGLE:
            return [self._id(value) for value in read.values]
        return [None if row is None else self._indicator(row) for row in read.values]

    def _check_known(self, split: RawSplit, values: list[Any]) -> None:
        listed = self.labels.kind == MULTI
        occurring = {item for row in values if row is not None for item in row} if listed else set(values)
        unlabelled = {None, -1} if self.labels.kind == SINGLE else {None}
        unknown = {value for value in occurring - unlabelled if self._id(value) is None}
        if unknown:
            raise UnknownLabelError(self._unknown_message(split, values, unknown))

    def _id(self, value: Any) -> int | None:
        if value in self.index:
            return self.index[value]
        return None if value is None else self.index.get(class_name(value))

    def _indicator(self, row: Iterable[Any]) -> list[float]:
        flags = [0.0] * self.labels.num_labels
        for value in row:
            class_id = self._id(value)
            assert class_id is not None
            flags[class_id] = 1.0
        return flags

    def _scores(self, split: RawSplit, read: LabelValues) -> list[Encoded | None]:
        if read.family not in ("int", "float"):
            where = [
                row
                for row, value in enumerate(read.values)
                if value is not None and (isinstance(value, bool | list) or as_number(value) is None)
            ]
            raise DataError(
                f"Column {self.column!r} holds {read.values[where[0]]!r} ({split.places.describe(where)}), "
                "but the labels are scores: a finite number is needed."
            )
        infinite = [row for row, value in enumerate(read.values) if value is not None and math.isinf(value)]
        if infinite:
            raise DataError(f"Column {self.column!r} is infinite at {split.places.describe(infinite)}.")
        return [None if value is None else float(value) for value in read.values]

    def _unknown_message(self, split: RawSplit, values: list[Any], unknown: set[Any]) -> str:
        lines = []
        for value in sorted(unknown, key=str)[:5]:
            rows = enumerate(values)
            where = [
                row for row, label in rows if label == value or (isinstance(label, list) and value in label)
            ]
            lines.append(
                f"  {class_name(value)!r}: {rows_text(len(where))} ({split.places.describe(where, most=3)})"
            )
        more = [f"  and {len(unknown) - 5} more"] if len(unknown) > 5 else []
        hint = did_you_mean(class_name(next(iter(sorted(unknown, key=str)))), self.labels.names)
        title = f"{split.name}: labels that {self.origin} does not have:"
        return "\n".join([title, *lines, *more, f"{hint} Every class has to occur in training."])


def choose_labels(
    primary: RawSplit,
    others: Sequence[RawSplit],
    column: str,
    *,
    task: BenchmarkTask | None = None,
    known: Labels | None = None,
    do_regression: bool | None = None,
) -> tuple[LabelEncoder, list[str]]:
    """Decide whether labels are classes or scores, and which classes there are; returns notes, too.

    Class names come from, in this order: the model (`known`), the source's declared names, a companion column such as
    `label_name` (in any split), the benchmark task, the values of the primary split (numbers by size, texts by the
    alphabet). `do_regression` decides whether numbers are scores; None decides from the values.

    Raises:
        DataError: no labels at all, one class only, or as many classes as rows.
    """
    read = read_labels(primary, column)
    if not read.any_present:
        raise DataError(f"{primary.name}: no row has a label in column {column!r}.")
    if known is not None:
        return _known_encoder(primary, others, column, read, known), []
    if do_regression and read.family not in ("int", "float"):
        examples = ", ".join([repr(value) for value in read.values if value is not None][:3])
        raise DataError(f"--do_regression needs numbers in column {column!r}, but it holds {examples}.")
    scores, notes = _are_scores(read, column, task, do_regression)
    if scores:
        distinct = {value for value in read.values if value is not None}
        if len(distinct) < 2:
            raise DataError(f"{primary.name}: every row has the score {distinct.pop()} in column {column!r}.")
        return LabelEncoder(Labels(REGRESSION, (column,)), column, {}, "the training data"), notes
    kind = MULTI if read.family == "list" else SINGLE
    _refuse_degenerate(primary, column, read)
    names, index, named_by = _name_classes(primary, others, column, read, task)
    notes.append(f"labels: {len(names)} classes from column {column!r}{named_by}: {_listed(names)}")
    notes += _note_alike_names(names)
    if kind == SINGLE:
        notes += _note_joined_names(names)
    return LabelEncoder(Labels(kind, names), column, index, "the training data"), notes


def _are_scores(
    read: LabelValues, column: str, task: BenchmarkTask | None, do_regression: bool | None
) -> tuple[bool, list[str]]:
    """Whether numbers are scores to predict, or classes; and a note where the values decided."""
    if task is not None:
        return not task.names, []
    if do_regression is not None or read.family != "float":
        return bool(do_regression), []
    distinct = sorted({value for value in read.values if value is not None})
    if distinct == list(range(len(distinct))) and 2 <= len(distinct) <= _MAX_FLOAT_CLASSES:
        return False, [
            f"labels: {column!r} holds only the whole numbers 0.0 to {distinct[-1]}: taken as classes "
            "(--do_regression makes them scores)"
        ]
    hint = ""
    if len(distinct) <= _MAX_FLOAT_CLASSES:
        hint = "; --do_regression false makes them classes"
    return True, [f"labels: {column!r} holds decimal numbers: taken as scores (regression{hint})"]


def _classes(read: LabelValues) -> list[Any]:
    """The distinct values, in the order of their ids."""
    if read.family == "list":
        return sorted({item for row in read.values if row is not None for item in row})
    distinct = {value for value in read.values if value is not None}
    # Everywhere but in a plain yes/no coding (-1 and 1), -1 stands for "no label".
    if distinct != {-1, 1} and read.family == "int":
        distinct.discard(-1)
    return sorted(distinct)


def _name_classes(
    primary: RawSplit, others: Sequence[RawSplit], column: str, read: LabelValues, task: BenchmarkTask | None
) -> tuple[tuple[str, ...], dict[Hashable, int], str]:
    """Class names in the order of the ids, the ids of raw values, and for a note where the names come from."""
    values = _classes(read)
    if read.named:
        names = primary.class_names[column]
        return names, _index_by_name(names), ""
    companion = companion_names([primary, *others], column)
    if companion is not None and set(values) <= companion[1].keys():
        names = tuple(companion[1][value] for value in values)
        return names, _index_by_value(names, values), f", named by {companion[0]!r}"
    if task is not None and task.names:
        index = _index_by_name(task.names)
        if all(value in index for value in values):
            return task.names, index, ", named by the task"
        raise DataError(
            f"{primary.name}: column {column!r} holds {_listed([class_name(value) for value in values])}, "
            f"but the task has the classes {_listed([f'{i} ({name})' for i, name in enumerate(task.names)])}."
        )
    spelled = spelling(primary, column) if read.family == "bool" else {}
    names = tuple(spelled.get(value, class_name(value)) for value in values)
    return names, _index_by_value(names, values), ""


def _known_encoder(
    primary: RawSplit, others: Sequence[RawSplit], column: str, read: LabelValues, known: Labels
) -> LabelEncoder:
    """An encoder to the classes of a model, matched by name wherever the data have names."""
    if known.kind == REGRESSION:
        return LabelEncoder(known, column, {}, "the model")
    index = _index_by_name(known.names)
    companion = None if read.named else companion_names([primary, *others], column)
    if companion is not None and set(companion[1].values()) <= set(known.names):
        index |= {value: known.label2id[name] for value, name in companion[1].items()}
    return LabelEncoder(known, column, index, "the model")


def _index_by_name(names: tuple[str, ...]) -> dict[Hashable, int]:
    """Names to ids, and ids to themselves unless the names are numbers."""
    index: dict[Hashable, int] = {name: position for position, name in enumerate(names)}
    if any(name.lstrip("-").isdigit() for name in names):
        return index
    return {**{position: position for position in range(len(names))}, **index}


def _index_by_value(names: tuple[str, ...], values: list[Any]) -> dict[Hashable, int]:
    """Raw values and class names to ids: another split may use the names."""
    by_name = {name: position for position, name in enumerate(names)}
    return {**by_name, **{value: position for position, value in enumerate(values)}}


def _refuse_degenerate(primary: RawSplit, column: str, read: LabelValues) -> None:
    values = _classes(read)
    if len(values) < 2:
        only = f"only the label {class_name(values[0])!r}" if values else "no label"
        raise DataError(
            f"{primary.name}: column {column!r} holds {only}. A classifier needs two classes or more"
            + (" (-1 stands for a row without label)." if values != [-1] and -1 in read.values else ".")
        )
    if len(values) > max(20, 0.9 * len(primary)) and not read.named:
        raise DataError(
            f"{primary.name}: column {column!r} holds {len(values):,} different values in {len(primary):,} "
            f"rows, such as {class_name(values[0])[:60]!r}. Is it the label column? Choose it with "
            "--label_column_name" + (", or say --do_regression." if read.family == "int" else ".")
        )


def _note_joined_names(names: Sequence[str]) -> list[str]:
    """A note where class names seem to be several names joined by a separator."""
    for sign in "|;,":
        joined = [name for name in names if sign in name and set(name.split(sign)) & set(names)]
        if joined:
            parts = [part.strip() for part in joined[0].split(sign)]
            return [
                f"labels: {joined[0]!r} is taken as one class; for several classes a row, write lists, such as {parts}"
            ]
    return []


def _note_alike_names(names: Sequence[str]) -> list[str]:
    """A note where names differ only in case, spaces, hyphens or the form of their characters."""
    alike: dict[str, list[str]] = {}
    for name in names:
        letters = unicodedata.normalize("NFKC", name).casefold()
        key = "".join(letter for letter in letters if not letter.isspace() and letter not in "-_")
        alike.setdefault(key or name, []).append(name)
    several = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if not several:
        return []
    more = f", and {len(several) - 1} more such" if len(several) > 1 else ""
    return [
        f"labels: {several[0]}{more} are taken as classes of their own; if they are one, write them alike"
    ]


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names) - most} more)"
