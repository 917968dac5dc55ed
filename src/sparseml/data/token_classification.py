"""Data for token classification: words and tags found and checked, the scheme of the tags recognized, tags encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from resparse.column_names import TAGS, TEXTS, WORDS, by_name
from resparse.tags import BILOU, BIOES, IOB1, IOB2, MIXED, OUTSIDE, Scheme, parts, scheme_of, to_iob2
from resparse.words import joined, written_list
from sparseml.data.columns import Columns, usual_column
from sparseml.data.label_encoding import SINGLE, Labels
from sparseml.data.rows import DataError, RawSplit, is_missing, rows_text
from sparseml.data.sources import DataOptions
from sparseml.data.splits import PreparedSplit, Roles, hold_out_rows, limit_rows, read_splits
from sparseml.data.text_classification import TextData

if TYPE_CHECKING:
    from datasets import Dataset

KEEP: Final = "keep"
SCHEMES: Final = (IOB2, KEEP)
"""What becomes of the tags' scheme."""

# More tags than this are words of a text, taken for tags by mistake.
_MOST_TAGS = 500
_ORDER = "BIES"


@dataclass(frozen=True)
class TokenData(TextData):
    """Splits with the columns text (the words with blanks between), tokens (words), and `labels` (tag ids).

    Attributes:
        scheme: of the tags that the model learns.
    """

    scheme: Scheme = IOB2


def load_tokens(
    options: DataOptions, *, text: str | None = None, label: str | None = None, tagging: str = IOB2
) -> TokenData:
    """Read, check and prepare the data that the options name.

    Args:
        text, label: names of columns; None finds them by their usual names.
        tagging: IOB2 to write tags of other schemes in IOB2, "keep" to learn them as they are.

    Raises:
        DataError: with file, row and remedy.
    """
    if options.task_name is not None:
        raise DataError(f"--task_name {options.task_name} names sentences with labels: no tagged words.")
    known = options.known_labels
    source, roles, options = read_splits(options, labels_from_training=known is None)
    notes = list(source.notes)
    text = text or options.input_column_names
    columns = {role: _choose(role, split, text, label) for role, split in roles.items()}
    read = {role: _read(role, split, columns[role], notes) for role, split in roles.items()}
    labelled = [split for split in read.values() if split.targets is not None]
    scheme = scheme_of(tags for split in labelled for tags in split.targets or ())
    converted = tagging == IOB2 and scheme in (IOB1, MIXED, BIOES, BILOU)
    if converted and known is not None and scheme_of([known.names]) in (BIOES, BILOU):
        converted = False
    if labelled:
        notes.append(
            f"tags: {'IOB1 and IOB2, mixed' if scheme == MIXED else scheme}"
            f"{', written as IOB2 (--tagging_scheme keep leaves them)' if converted else ''}"
        )
    names = known.names if known is not None else _names(roles, columns, labelled, converted)
    labels = Labels(SINGLE, names) if names else None
    if labels is not None:
        read = {role: _encode(role, split, labels, converted, notes) for role, split in read.items()}
    splits = limit_rows(hold_out_rows(read, options, notes, ["text"]), options, notes)
    built = {role: _dataset(split) for role, split in splits.items()}
    own = IOB2 if converted else scheme if labelled else scheme_of([names])
    first = next(iter(columns.values()))
    return TokenData(source.name, first, labels, notes=notes, scheme=own, **built)


def check_rows(roles: Roles, given: Mapping[str, str]) -> None:
    """Check the columns and rows of splits by role, as `load_tokens` does.

    Args:
        given: arguments of the command, as they are written.

    Raises:
        DataError: with file, row and remedy.
    """
    text = given.get("text_column_name") or given.get("input_column_names")
    for role, split in roles.items():
        _read(role, split, _choose(role, split, text, given.get("label_column_name")), [])


def _choose(role: str, split: RawSplit, text: str | None, label: str | None) -> Columns:
    """The columns of a split; files of several formats may call them otherwise."""
    words = usual_column(split, text, (*WORDS, *TEXTS), "--text_column_name", "words")
    asked = None if label == "label" and label not in split.columns else label
    if role.startswith("test"):
        tags = asked if asked in split.columns else by_name(TAGS, list(split.columns))
    else:
        tags = usual_column(split, asked, TAGS, "--label_column_name", "tags")
    return Columns(words, None, tags)


def _read(role: str, split: RawSplit, columns: Columns, notes: list[str]) -> PreparedSplit:
    """The words of each row, and its tags as they are written; rows without words are left out, but of a test split."""
    predicted = role.startswith("test")
    words = [_list(value) for value in split.columns[columns.texts[0]]]
    wrong = [row for row, value in enumerate(words) if value is None]
    if wrong:
        raise DataError(
            f"{split.name}: column {columns.texts[0]!r} holds no words ({split.places.describe(wrong)}): wanted are "
            "lists, lists as JSON, or words separated by blanks."
        )
    tags = _tags(role, split, columns, words)
    cleaned = RawSplit(
        split.name,
        {**split.columns, "tokens": words, "text": [joined(row or ()) for row in words]},
        split.places,
    )
    empty = [] if predicted else [row for row, value in enumerate(words) if not "".join(value or ()).strip()]
    if len(empty) == len(split):
        raise DataError(f"{split.name}: no row has words ({split.places.describe(empty)}).")
    prepared = PreparedSplit(cleaned, tags)
    if not empty:
        return prepared
    notes.append(
        f"{split.name}: {rows_text(len(empty))} left out without words ({split.places.describe(empty, 3)})"
    )
    without = set(empty)
    return prepared.take([row for row in range(len(split)) if row not in without])


def _tags(
    role: str, split: RawSplit, columns: Columns, words: Sequence[list[str] | None]
) -> list[list[str]] | None:
    name = columns.label
    if name is None or name not in split.columns:
        return None
    declared = split.class_names.get(name)
    values = split.columns[name]
    read = [_list(value) for value in values]
    absent = [row for row, value in enumerate(read) if value is None]
    if absent and role.startswith("test"):
        return None
    if absent:
        raise DataError(
            f"{split.name}: {rows_text(len(absent))} without tags in {name!r} ({split.places.describe(absent)})."
        )
    unequal = [
        row
        for row, (one, tags) in enumerate(zip(words, read, strict=True))
        if len(one or ()) != len(tags or ())
    ]
    if unequal:
        row = unequal[0]
        raise DataError(
            f"{split.name}: {rows_text(len(unequal))} with another number of tags than of words, the first with "
            f"{len(words[row] or ()):,} words and {len(read[row] or ()):,} tags ({split.places.describe(unequal)})."
        )
    if declared is None:
        return [[tag.strip() for tag in row or ()] for row in read]
    try:
        return [[declared[int(tag)] if int(tag) >= 0 else OUTSIDE for tag in row or ()] for row in read]
    except (IndexError, ValueError) as error:
        raise DataError(
            f"{split.name}: {name!r} holds a tag that its {len(declared)} names do not have."
        ) from error


def _list(value: Any) -> list[str] | None:
    """A list of words or tags, as it is, as JSON or Python writes it, or with blanks between; None for no list."""
    if isinstance(value, str):
        found = written_list(value)
        value = value.split() if found is None else found
    if is_missing(value) or isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        return None
    found = list(value)
    if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in found):
        return None
    return [str(item) for item in found]


def _names(
    roles: Roles, columns: Mapping[str, Columns], labelled: Sequence[PreparedSplit], converted: bool
) -> tuple[str, ...]:
    """The tags in the order of their ids: as a dataset declares them, else "O" first and types by the alphabet."""
    if not labelled:
        return ()
    declared = next(
        (
            split.class_names[str(columns[role].label)]
            for role, split in roles.items()
            if columns[role].label in split.class_names
        ),
        None,
    )
    if declared is not None and not converted:
        return declared
    # Also tags that only validation rows have: a model that cannot say them is scored, not refused.
    found = {
        tag
        for split in labelled
        for row in split.targets or ()
        for tag in (to_iob2(row) if converted else row)
    }
    if converted:
        kinds = {parts(tag)[1] for tag in found} - {""}
        found = (
            {f"{prefix}-{kind}" for prefix in "BI" for kind in kinds}
            | ({OUTSIDE} & found)
            | {tag for tag in found if tag in "BI"}
        )
    if len(found) > _MOST_TAGS:
        raise DataError(
            f"{labelled[0].rows.name} holds {len(found):,} different tags; are these words? Name the column of the "
            "tags with --label_column_name."
        )
    return tuple(sorted(found, key=_place))


def _place(tag: str) -> tuple[bool, str, int]:
    prefix, kind = parts(tag)
    return tag != OUTSIDE, kind, _ORDER.find(prefix)


def _encode(
    role: str, split: PreparedSplit, labels: Labels, converted: bool, notes: list[str]
) -> PreparedSplit:
    """Tags to their ids; a test split with tags that the model does not have is predicted without metrics."""
    if split.targets is None:
        return split
    written = [to_iob2(row) for row in split.targets] if converted else split.targets
    ids = labels.label2id
    unknown = Counter(tag for row in written for tag in row if tag not in ids)
    if unknown:
        rows = [row for row, tags in enumerate(written) if any(tag not in ids for tag in tags)]
        what = ", ".join(f"{tag} ({count:,})" for tag, count in unknown.most_common(5))
        where = f"{split.rows.name}: tags that the model does not have: {what} ({split.rows.places.describe(rows)})"
        if not role.startswith("test"):
            raise DataError(f"{where}. It has {', '.join(labels.names)}.")
        notes.append(f"{where}. The rows are predicted, and there are no metrics on this split.")
        return PreparedSplit(split.rows, None)
    return PreparedSplit(split.rows, [[ids[tag] for tag in row] for row in written])


def _dataset(split: PreparedSplit) -> Dataset:
    from datasets import Dataset, Features, List, Value

    values: dict[str, Any] = {name: split.rows.columns[name] for name in ("text", "tokens")}
    kinds: dict[str, Any] = {"text": Value("string"), "tokens": List(Value("string"))}
    if split.targets is not None and all(isinstance(tag, int) for row in split.targets for tag in row):
        values["labels"] = split.targets
        kinds["labels"] = List(Value("int64"))
    return Dataset.from_dict(values, features=Features(kinds))
