"""What a model has to predict, and the step from raw label values to the numbers that it learns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from resparse.errors import did_you_mean
from sparseml.data.errors import DataError
from sparseml.data.label_values import LabelValues, as_number, class_name, read_labels
from sparseml.data.rows import RawSplit, count_rows

Kind = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE: Kind = "single_label_classification"
MULTI: Kind = "multi_label_classification"
REGRESSION: Kind = "regression"

Encoded = int | float | list[float]


@dataclass(frozen=True)
class Labels:
    """What the classifier's outputs mean.

    Attributes:
        kind: as `problem_type` in a Transformers configuration.
        names: class names in the order of the ids; the score's name for regression.
    """

    kind: Kind
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise DataError(
                f"Class names have to differ, but {', '.join(map(repr, twice))} stands more than once."
            )

    @property
    def num_labels(self) -> int:
        """Outputs of the model: one for regression."""
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
    """Turns raw labels into class ids, rows of zeros and ones, or scores.

    Attributes:
        labels: what they mean.
        column: the label column.
        index: raw value to class id.
        origin: where the classes come from, for errors: "the training data", "the model", ...
    """

    labels: Labels
    column: str
    index: Mapping[Hashable, int]
    origin: str

    def encode(self, split: RawSplit) -> list[Encoded | None]:
        """Encode a split's labels; None where a row has none.

        Returns:
            (rows,) int for a single label, list of `num_labels` floats for several, float for a score.

        Raises:
            DataError: a class that is unknown, with counts and places; or something that is no number, for
                a score.
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
        if self.labels.kind == SINGLE:
            return [self._id(value) for value in self._known(split, read.values)]
        self._known(split, read.values)
        return [None if row is None else self._indicator(row) for row in read.values]

    def _known(self, split: RawSplit, values: list[Any]) -> list[Any]:
        """The values, once it is sure that each is a known class."""
        listed = self.labels.kind == MULTI
        occurring = {item for row in values if row is not None for item in row} if listed else set(values)
        unknown = {
            value for value in occurring if self._id(value) is None and not self._stands_for_none(value)
        }
        if unknown:
            raise DataError(self._unknown_message(split, values, unknown))
        return values

    def _id(self, value: Any) -> int | None:
        if value in self.index:
            return self.index[value]
        return None if value is None else self.index.get(class_name(value))

    def _stands_for_none(self, value: Any) -> bool:
        return value is None or (value == -1 and self.labels.kind == SINGLE)

    def _indicator(self, row: Iterable[Any]) -> list[float]:
        flags = [0.0] * self.labels.num_labels
        for value in row:
            identity = self._id(value)
            assert identity is not None
            flags[identity] = 1.0
        return flags

    def _scores(self, split: RawSplit, read: LabelValues) -> list[Encoded | None]:
        if read.family not in ("int", "float"):
            where = [row for row, value in enumerate(read.values) if not _may_be_score(value)]
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
            where = [row for row, label in enumerate(values) if _carries(label, value)]
            lines.append(
                f"  {class_name(value)!r}: {count_rows(len(where))} ({split.places.describe(where, most=3)})"
            )
        more = [f"  and {len(unknown) - 5} more"] if len(unknown) > 5 else []
        hint = did_you_mean(class_name(next(iter(sorted(unknown, key=str)))), self.labels.names)
        return "\n".join(
            [
                f"{split.name}: labels that {self.origin} does not have:",
                *lines,
                *more,
                f"{hint} Every class has to occur in training.",
            ]
        )


def _carries(label: Any, value: Any) -> bool:
    return value in label if isinstance(label, list) else label is not None and bool(label == value)


def _may_be_score(value: Any) -> bool:
    return value is None or (not isinstance(value, bool | list) and as_number(value) is not None)
