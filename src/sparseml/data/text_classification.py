"""Text classification data: columns and labels chosen, texts cleaned, labels encoded, in datasets to be tokenized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sparseml.data.columns import Columns, choose_label_column, choose_text_columns, require_columns
from sparseml.data.growing_table import GrowingTable, Texts, dataset_of
from sparseml.data.known_datasets import BenchmarkTask
from sparseml.data.label_encoding import (
    MULTI,
    REGRESSION,
    SINGLE,
    LabelEncoder,
    Labels,
    UnknownLabelError,
    choose_labels,
)
from sparseml.data.label_values import read_labels
from sparseml.data.rows import MANY_ROWS, DataError, RawSplit, rows_text
from sparseml.data.shared_rows import shared_notes
from sparseml.data.sources import DataOptions
from sparseml.data.splits import PreparedSplit, Roles, hold_out_rows, limit_rows, read_splits

if TYPE_CHECKING:
    from datasets import Dataset

# Shares of rows that may lack a label (-1) or a text; above them the column or the file is wrong.
_MAX_UNLABELLED = 0.05
_MAX_MISSING_TEXTS = 0.2
SPLITS = ("train", "validation", "validation_mismatched", "test", "test_mismatched")


@dataclass(frozen=True)
class TextData:
    """Text classification data: splits with the text columns as strings, and `labels` if there are any.

    Labels are int, list of floats, or float; a split is None where the run does not need it.
    """

    name: str
    columns: Columns
    labels: Labels | None
    train: Dataset | None = None
    validation: Dataset | None = None
    validation_mismatched: Dataset | None = None
    test: Dataset | None = None
    test_mismatched: Dataset | None = None
    notes: list[str] = field(default_factory=list)
    task_name: str | None = None

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each split that there is."""
        splits = {name: getattr(self, name) for name in SPLITS}
        return {name: len(split) for name, split in splits.items() if split is not None}

    def name_of(self, split: Dataset) -> str:
        """What one of the splits is called."""
        return next(name for name in SPLITS if getattr(self, name) is split)


def load_text_data(options: DataOptions) -> TextData:
    """Read, check and prepare the data that the options name; a DataError gives file, line and remedy."""
    source, roles, options = read_splits(options, labels_from_training=options.known_labels is None)
    notes = list(source.notes)
    columns = _choose_columns(roles, options, source.task, notes)
    encoder = _choose_encoder(roles, columns, source.task, options, notes)
    splits = {role: _prepare(role, split, columns, encoder, notes) for role, split in roles.items()}
    splits = hold_out_rows(splits, options, notes, columns.texts)
    if encoder is not None and "train" in splits:
        _note_absent_classes(splits["train"], encoder.labels, notes)
    splits = limit_rows(splits, options, notes)
    labels = encoder.labels if encoder is not None else options.known_labels
    built = {role: _dataset(split, columns, labels) for role, split in splits.items()}
    # Rows that were held out share no text with the rest.
    given = {role: built[role] for role in built if role != "validation" or options.validation_ratio is None}
    notes += shared_notes(given, columns.texts)
    return TextData(source.name, columns, labels, notes=notes, task_name=source.task_name, **built)


def check_rows(roles: Roles, given: Mapping[str, str]) -> None:
    """Check the columns of splits by role, as `load_text_data` does before it encodes labels.

    Args:
        given: arguments of the command, as they are written.

    Raises:
        DataError: a column is not there, or it is not clear which is meant.
    """
    options = DataOptions(
        input_column_names=given.get("input_column_names"),
        label_column_name=given.get("label_column_name", DataOptions.label_column_name),
    )
    _choose_columns(roles, options, None, [])


def _choose_columns(
    roles: Roles, options: DataOptions, task: BenchmarkTask | None, notes: list[str]
) -> Columns:
    first = next(iter(roles.values()))
    labelled = [split for role, split in roles.items() if not role.startswith("test")]
    label, label_notes = choose_label_column(labelled or [first], options.label_column_name, bool(labelled))
    texts, text_notes = choose_text_columns(
        first, options.input_column_names, label, task, options.known_columns
    )
    if label in texts:
        raise DataError(f"Column {label!r} is both input and label: choose others (--input_column_names).")
    for split in roles.values():
        require_columns(split, texts, "--input_column_names")
    for split in labelled:
        require_columns(split, [label] if label else [], "--label_column_name")
    notes += label_notes + text_notes
    return Columns(texts[0], texts[1] if len(texts) > 1 else None, label)


def _choose_encoder(
    roles: Roles, columns: Columns, task: BenchmarkTask | None, options: DataOptions, notes: list[str]
) -> LabelEncoder | None:
    """The labels of the training split, else of the first split that has any; None where no split has."""
    if columns.label is None:
        return None
    labelled = [
        split
        for role, split in roles.items()
        if columns.label in split.columns
        and (not role.startswith("test") or read_labels(split, columns.label).any_present)
    ]
    if not labelled:
        return None
    known = None if options.needs_train else options.known_labels
    encoder, new_notes = choose_labels(
        labelled[0], labelled[1:], columns.label, task=task, known=known, do_regression=options.do_regression
    )
    notes += new_notes
    return encoder


def _prepare(
    role: str, split: RawSplit, columns: Columns, encoder: LabelEncoder | None, notes: list[str]
) -> PreparedSplit:
    """Clean the texts and encode the labels of a split; one that is only predicted keeps all its rows."""
    predicted = role.startswith("test")
    rows, new_notes = clean_texts(split, columns.texts, keep_all=predicted)
    notes += new_notes
    if encoder is None or encoder.column not in rows.columns:
        return PreparedSplit(rows, None)
    try:
        encoded = encoder.encode(rows)
    except UnknownLabelError as error:
        if not predicted:
            raise
        which = " ".join(" ".join(str(error).splitlines()[:-1]).split())
        notes.append(f"{which}. They are predicted, too, and there are no metrics on this split.")
        return PreparedSplit(rows, None)
    missing = [row for row, label in enumerate(encoded) if label is None]
    # Benchmarks write scores of -1 where labels are not published.
    unpublished = all(isinstance(label, float) and label == -1 for label in encoded)
    if predicted and (missing or unpublished):
        if len(missing) < len(encoded) and missing:
            notes.append(
                f"{split.name}: {rows_text(len(missing))} without label, so there are no metrics on it"
            )
        return PreparedSplit(rows, None)
    if missing:
        _refuse_missing(rows, columns, missing)
        notes.append(
            f"{split.name}: {rows_text(len(missing))} that the dataset marks as without label (-1) left out "
            f"({rows.places.describe(missing, most=3)})"
        )
        rows = rows.take([row for row, label in enumerate(encoded) if label is not None])
    targets = [label for label in encoded if label is not None]
    single = encoder.labels.kind == SINGLE
    return PreparedSplit(
        rows, targets, [label for label in targets if isinstance(label, int)] if single else None
    )


def _refuse_missing(rows: RawSplit, columns: Columns, missing: list[int]) -> None:
    """Refuse rows without label, except a few that a dataset with declared classes marks as such (-1)."""
    if columns.label in rows.class_names and len(missing) <= _MAX_UNLABELLED * len(rows):
        return
    raise DataError(
        f"{rows.name}: of {rows_text(len(rows))}, {len(missing):,} without label in {columns.label!r} "
        f"({rows.places.describe(missing)}). Take them out or fill them in; if -1 is meant as a class, "
        "give the classes names."
    )


def _note_absent_classes(train: PreparedSplit, labels: Labels, notes: list[str]) -> None:
    """Note the classes that no training row has: the model will never predict them."""
    if train.targets is None or labels.kind == REGRESSION:
        return
    if labels.kind == MULTI:
        present = {class_id for row in train.targets for class_id, flag in enumerate(row) if flag}
    else:
        present = set(train.targets)
    absent = [name for class_id, name in enumerate(labels.names) if class_id not in present]
    if absent:
        notes.append(f"labels: no training row has the class {', '.join(absent)}")


def _dataset(split: PreparedSplit, columns: Columns, labels: Labels | None) -> Dataset:
    import pyarrow
    from datasets import Features, List, Value

    kinds: dict[str, Any] = {column: Value("string") for column in columns.texts}
    values: dict[str, Any] = {column: split.rows.columns[column] for column in columns.texts}
    if split.targets is not None and labels is not None:
        label_types = {SINGLE: Value("int64"), MULTI: List(Value("float32")), REGRESSION: Value("float32")}
        kinds["labels"] = label_types[labels.kind]
        values["labels"] = split.targets
    schema = Features(kinds).arrow_schema
    with GrowingTable() as table:
        for start in range(0, max(len(split), 1), MANY_ROWS):
            part = {name: column[start : start + MANY_ROWS] for name, column in values.items()}
            table.write(pyarrow.table(part, schema))
        return dataset_of(table.finish())


def clean_texts(split: RawSplit, columns: Sequence[str], keep_all: bool) -> tuple[RawSplit, list[str]]:
    """Drop rows without text, and convert numbers to text; returns a note when something was done.

    That is: of whose texts one is missing (None), or all are empty. With `keep_all` they are kept as empty strings.

    Raises:
        DataError: values that are not text (lists, ...), or more than a fifth of the rows without text.
    """
    texts = {column: _strings(split, column) for column in columns}
    empty = [
        row
        for row, values in enumerate(zip(*texts.values(), strict=True))
        if None in values or not any(value.strip() for value in values)
    ]
    if len(empty) > _MAX_MISSING_TEXTS * len(split) and not keep_all:
        raise DataError(
            f"{split.name}: {len(empty):,} of {len(split):,} rows have no text in {' and '.join(columns)} "
            f"({split.places.describe(empty)}). Is that the text column? Choose with --input_column_names."
        )
    if keep_all:
        texts = {
            column: values.filled() if isinstance(values, Texts) else [value or "" for value in values]
            for column, values in texts.items()
        }
    cleaned = replace(split, columns={**split.columns, **texts})
    if not empty:
        return cleaned, []
    what, where = f"{rows_text(len(empty))} without text", split.places.describe(empty)
    if keep_all:
        return cleaned, [f"{what} kept as empty ({where})"]
    without = set(empty)
    kept = cleaned.take([row for row in range(len(split)) if row not in without])
    return kept, [f"{what} left out ({where})"]


def _strings(split: RawSplit, column: str) -> Sequence[str | None]:
    values = split.columns[column]
    if isinstance(values, Texts):
        return values
    types = set(map(type, values))
    if types == {str}:
        return list(values)
    if not types <= {str, int, float, bool, type(None)}:
        wrong = [row for row, value in enumerate(values) if not isinstance(value, str | int | float | None)]
        raise DataError(
            f"{split.name}: column {column!r} holds {type(values[wrong[0]]).__name__} values, not text "
            f"({split.places.describe(wrong)}). Choose the text column with --input_column_names."
        )
    # pandas writes NaN where a text is missing.
    return [None if value is None or value != value else str(value) for value in values]  # noqa: PLR0124
