"""From the user's options to datasets that are ready to be tokenized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparseml.data.columns import Columns, choose_label_column, choose_text_columns, require_columns
from sparseml.data.errors import DataError
from sparseml.data.label_choice import choose_labels
from sparseml.data.label_values import read_labels
from sparseml.data.labels import MULTI, REGRESSION, SINGLE, Encoded, LabelEncoder, Labels
from sparseml.data.options import DataOptions
from sparseml.data.roles import Roles, assign_roles, check_options, held_out
from sparseml.data.rows import RawSplit, count_rows
from sparseml.data.sources import read_source
from sparseml.data.splits import choose, hold_out
from sparseml.data.tasks import Task
from sparseml.data.texts import clean_texts, take

if TYPE_CHECKING:
    from datasets import Dataset

# Rows that a dataset marks as without label (-1) are left out up to this share; above it something is wrong.
_MOST_UNLABELLED = 0.05
_SPLITS = ("train", "validation", "validation_mismatched", "test", "test_mismatched")


@dataclass(frozen=True)
class TextData:
    """Text classification data.

    Attributes:
        name: of the dataset.
        columns: the text columns in every split, and the label column that `labels` was made from.
        labels: what is to be predicted; None only when nothing has labels (prediction alone).
        train, validation, test: the text columns as strings and `labels` (int, list of floats, or float); a
            test split without labels has no such column; None where the run does not need the split.
        validation_mismatched, test_mismatched: MNLI's second splits.
        notes: what was chosen, left out or renamed, a line each.
        task_name: the benchmark task, which has metrics of its own.
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
        """How many rows each split has that there is."""
        splits = {name: getattr(self, name) for name in _SPLITS}
        return {name: len(split) for name, split in splits.items() if split is not None}


@dataclass(frozen=True)
class _Part:
    """A split on its way: cleaned texts, encoded labels (None: the split has none)."""

    rows: RawSplit
    labels: list[Encoded] | None


def load_text_data(options: DataOptions) -> TextData:
    """Read, check and prepare the data that the options name.

    Raises:
        DataError: the data cannot be found, read, or used as asked: with file, line and remedy.
    """
    check_options(options)
    source = read_source(options)
    notes = list(source.notes)
    options = held_out(source.splits, options)
    roles = assign_roles(source.splits, source.name, options)
    columns = _choose_columns(roles, options, source.task, notes)
    encoder = _choose_encoder(roles, columns, source.task, options, notes)
    parts = {
        role: _prepare(split, columns, encoder, labelled=role not in ("test", "test_mismatched"), notes=notes)
        for role, split in roles.items()
    }
    if options.validation_ratio is not None:
        parts["train"], parts["validation"] = _hold_out(parts["train"], encoder, options, notes)
    if not options.needs_train:
        parts.pop("train", None)
    if encoder is not None:
        _note_untrained(parts, encoder.labels, notes)
    chosen = {role: _limit(role, part, encoder, options, notes) for role, part in parts.items()}
    labels = encoder.labels if encoder is not None else options.known_labels
    built = {role: _dataset(part, columns, labels) for role, part in chosen.items()}
    return TextData(source.name, columns, labels, notes=notes, task_name=source.task_name, **built)


def _choose_columns(roles: Roles, options: DataOptions, task: Task | None, notes: list[str]) -> Columns:
    first = next(iter(roles.values()))
    demanding = [split for role, split in roles.items() if not role.startswith("test")]
    label, label_notes = choose_label_column(demanding or [first], options.label_column_name, bool(demanding))
    texts, text_notes = choose_text_columns(first, options.input_column_names, label, task)
    if label in texts:
        raise DataError(f"Column {label!r} is both input and label: choose others (--input_column_names).")
    for split in roles.values():
        require_columns(split, texts, "--input_column_names")
    for split in demanding:
        require_columns(split, [label] if label else [], "--label_column_name")
    notes += label_notes + text_notes
    return Columns(texts[0], texts[1] if len(texts) > 1 else None, label)


def _choose_encoder(
    roles: Roles, columns: Columns, task: Task | None, options: DataOptions, notes: list[str]
) -> LabelEncoder | None:
    """Decide the labels on the training split, else on the first split that has any."""
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
    encoder, found = choose_labels(
        labelled[0], labelled[1:], columns.label, task=task, known=known, do_regression=options.do_regression
    )
    notes += found
    return encoder


def _prepare(
    split: RawSplit, columns: Columns, encoder: LabelEncoder | None, labelled: bool, notes: list[str]
) -> _Part:
    """Clean the texts and encode the labels of a split; one that is only predicted keeps all its rows."""
    rows, found = clean_texts(split, columns.texts, keep_all=not labelled)
    notes += found
    if encoder is None or encoder.column not in rows.columns:
        return _Part(rows, None)
    encoded = encoder.encode(rows)
    missing = [row for row, label in enumerate(encoded) if label is None]
    if not labelled and (missing or _all_placeholders(encoded)):
        if len(missing) < len(encoded) and missing:
            notes.append(
                f"{split.name}: {count_rows(len(missing))} without label, so there are no metrics on it"
            )
        return _Part(rows, None)
    if missing:
        _refuse_missing(rows, columns, missing)
        notes.append(
            f"{split.name}: {count_rows(len(missing))} that the dataset marks as without label (-1) left out "
            f"({rows.places.describe(missing, most=3)})"
        )
        without = set(missing)
        rows = take(rows, [row for row in range(len(rows)) if row not in without])
    return _Part(rows, [label for label in encoded if label is not None])


def _all_placeholders(encoded: Sequence[Encoded | None]) -> bool:
    """Whether scores are all -1, which benchmarks write where the labels are kept secret."""
    return all(isinstance(label, float) and label == -1 for label in encoded)


def _refuse_missing(rows: RawSplit, columns: Columns, missing: list[int]) -> None:
    """Rows without label are an error, but for the few that a dataset with declared classes marks so (-1)."""
    if columns.label in rows.class_names and len(missing) <= _MOST_UNLABELLED * len(rows):
        return
    raise DataError(
        f"{rows.name}: of {count_rows(len(rows))}, {len(missing):,} without label in {columns.label!r} "
        f"({rows.places.describe(missing)}). Take them out or fill them in; if -1 is meant as a class, "
        "give the classes names."
    )


def _hold_out(
    train: _Part, encoder: LabelEncoder | None, options: DataOptions, notes: list[str]
) -> tuple[_Part, _Part]:
    rows = len(train.rows)
    if rows < 2:
        raise DataError(f"{train.rows.name}: of {rows} row none can be held out (--validation_ratio).")
    assert options.validation_ratio is not None
    groups = _groups(train, encoder)
    kept, held = hold_out(groups, rows, options.validation_ratio, options.seed)
    if not len(held):
        raise DataError(
            f"{train.rows.name}: no row can be held out, since every class occurs once. Name a "
            "--validation_file."
        )
    how = "each class in proportion" if groups is not None else "at random"
    notes.append(f"validation: {len(held):,} of {rows:,} training rows held out, {how} (seed {options.seed})")
    return _take(train, kept.tolist()), _take(train, held.tolist())


def _limit(
    role: str, part: _Part, encoder: LabelEncoder | None, options: DataOptions, notes: list[str]
) -> _Part:
    """No more rows than the user wants: the first for prediction, elsewhere a fair choice of all."""
    rows = len(part.rows)
    if role.startswith("test"):
        most = options.max_predict_samples
        if most is None or most >= rows:
            return part
        notes.append(f"{role}: the first {most:,} of {rows:,} rows")
        return _take(part, list(range(most)))
    most = options.max_train_samples if role == "train" else options.max_eval_samples
    if most is None or most >= rows:
        return part
    groups = _groups(part, encoder)
    how = "each class in proportion" if groups is not None else "at random"
    notes.append(f"{role}: {most:,} of {rows:,} rows, {how} (seed {options.seed})")
    return _take(part, choose(groups, rows, most, options.seed).tolist())


def _groups(part: _Part, encoder: LabelEncoder | None) -> list[int] | None:
    """The classes to keep in proportion: of single labels only."""
    if encoder is None or encoder.labels.kind != SINGLE or part.labels is None:
        return None
    return [label for label in part.labels if isinstance(label, int)]


def _take(part: _Part, rows: list[int]) -> _Part:
    return _Part(take(part.rows, rows), None if part.labels is None else [part.labels[row] for row in rows])


def _note_untrained(parts: dict[str, _Part], labels: Labels, notes: list[str]) -> None:
    """Say which declared classes the training rows do not have: the model will never predict them."""
    train = parts.get("train")
    if train is None or train.labels is None or labels.kind == REGRESSION:
        return
    absent = [
        labels.names[identity]
        for identity in sorted(set(range(labels.num_labels)) - _occurring(train.labels))
    ]
    if absent:
        notes.append(f"labels: no training row has the class {', '.join(absent)}")


def _occurring(labels: list[Encoded]) -> set[int]:
    if labels and isinstance(labels[0], list):
        return {
            identity for row in labels if isinstance(row, list) for identity, flag in enumerate(row) if flag
        }
    return {label for label in labels if isinstance(label, int)}


def _dataset(part: _Part, columns: Columns, labels: Labels | None) -> Dataset:
    from datasets import Dataset, Features, List, Value

    kinds: dict[str, Any] = {column: Value("string") for column in columns.texts}
    values: dict[str, Any] = {column: part.rows.columns[column] for column in columns.texts}
    if part.labels is not None and labels is not None:
        kinds["labels"] = {
            SINGLE: Value("int64"),
            MULTI: List(Value("float32")),
            REGRESSION: Value("float32"),
        }[labels.kind]
        values["labels"] = part.labels
    return Dataset.from_dict(values, features=Features(kinds))
