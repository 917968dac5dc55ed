"""Question answering data: questions, passages and answers found, and the answers' places in the passages checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resparse.column_names import ANSWER_STARTS, ANSWERS, CONTEXTS, QUESTIONS, by_name
from resparse.errors import did_you_mean
from resparse.json_text import JsonError, parse_json
from resparse.spans import Reading
from sparseml.data.columns import Columns, usual_column
from sparseml.data.rows import DataError, RawSplit, is_missing, rows_text
from sparseml.data.sources import DataOptions
from sparseml.data.splits import PreparedSplit, Roles, hold_out_rows, limit_rows, read_splits
from sparseml.data.text_classification import TextData, clean_texts

if TYPE_CHECKING:
    from datasets import Dataset

# Share of training rows whose answer may not be in the passage; above it the columns or the file are wrong.
_MAX_WRONG = 0.05

Answers = tuple[tuple[str, int], ...]
"""The right answers of a question, each with its first character in the passage; -1 where it is not there."""


@dataclass(frozen=True)
class QuestionData(TextData):
    """Splits with the columns id, question, context, and where they are known `answers` and `answer_start`, lists.

    Attributes:
        reading: how passages are read and answers chosen; what the arguments say and the rows decide.
    """

    reading: Reading = field(default_factory=Reading)


def load_questions(
    options: DataOptions,
    reading: Reading,
    *,
    version_2: bool | None = None,
    question: str | None = None,
    context: str | None = None,
    answers: str | None = None,
) -> QuestionData:
    """Read, check and prepare the data that the options name.

    Args:
        reading: what the arguments say.
        version_2: whether questions may have no answer; None: if one in the data has none.
        question, context, answers: names of columns; None finds them by their usual names.

    Raises:
        DataError: with file, row and remedy.
    """
    if options.task_name is not None:
        raise DataError(
            f"--task_name {options.task_name} names sentences with labels: no questions on passages."
        )
    source, roles, options = read_splits(options, labels_from_training=False)
    notes = list(source.notes)
    question, context = _asked(options.input_column_names, question, context)
    columns = _choose(roles, question, context, answers)
    splits = {role: _prepare(role, split, columns, notes) for role, split in roles.items()}
    splits = hold_out_rows(splits, options, notes, columns.texts[1:])
    splits = limit_rows(splits, options, notes)
    silent = {
        role: sum(not found for found in split.targets)
        for role, split in splits.items()
        if split.targets is not None
    }
    allowed = any(silent.values()) if version_2 is None else version_2
    if not allowed and any(silent.values()):
        splits = {role: _answered(role, split, notes) for role, split in splits.items()}
    elif version_2 is None and allowed:
        notes.append(
            f"answers: {rows_text(sum(silent.values()))} without one, so that a question may have none "
            "(--version_2_with_negative)"
        )
    built = {role: _dataset(split, columns) for role, split in splits.items()}
    reading = reading.changed(version_2_with_negative=allowed)
    return QuestionData(source.name, columns, None, notes=notes, reading=reading, **built)


def check_rows(roles: Roles, given: Mapping[str, str]) -> None:
    """Check the columns and rows of splits by role, as `load_questions` does.

    Args:
        given: arguments of the command, as they are written.

    Raises:
        DataError: with file, row and remedy.
    """
    question, context = _asked(
        given.get("input_column_names"), given.get("question_column_name"), given.get("context_column_name")
    )
    columns = _choose(roles, question, context, given.get("answer_column_name"))
    for role, split in roles.items():
        _prepare(role, split, columns, [])


def _asked(both: str | None, question: str | None, context: str | None) -> tuple[str | None, str | None]:
    """The columns of question and passage that are asked for, by their own arguments or by that of all tasks."""
    names = [name.strip() for name in (both or "").split(",")]
    if question is None and context is None and len(names) == 2:
        question, context = names
    return question, context


def _choose(roles: Roles, question: str | None, context: str | None, answers: str | None) -> Columns:
    """The columns of the first split, which all need."""
    first = next(iter(roles.values()))
    texts = (
        usual_column(first, question, QUESTIONS, "--question_column_name", "questions"),
        usual_column(first, context, CONTEXTS, "--context_column_name", "passages"),
    )
    if answers is None and all(role.startswith("test") for role in roles):
        label = by_name(ANSWERS, list(first.columns))
    else:
        label = usual_column(first, answers, ANSWERS, "--answer_column_name", "answers")
    for role, split in roles.items():
        for name in (*texts, *(() if role.startswith("test") else (label,))):
            if name is not None and name not in split.columns:
                raise DataError(
                    f"{split.name} has no column {name!r}. {did_you_mean(name, list(split.columns))}"
                )
    return Columns(*texts, label)


def _prepare(role: str, split: RawSplit, columns: Columns, notes: list[str]) -> PreparedSplit:
    """Texts cleaned and answers read. Training needs each answer's place, metrics only its text."""
    predicted, trained = role.startswith("test"), role == "train"
    rows, new = clean_texts(split, columns.texts, keep_all=predicted)
    notes += new
    if not predicted:
        rows = _without_gaps(rows, columns, notes)
    if columns.label is None or columns.label not in rows.columns:
        return PreparedSplit(rows, None)
    starts = by_name(ANSWER_STARTS, list(rows.columns))
    firsts: Sequence[Any] = rows.columns[starts] if starts is not None else [None] * len(rows)
    targets: list[Answers | None] = []
    moved, absent = [], []
    for row, value in enumerate(rows.columns[columns.label]):
        given = _given(value, firsts[row], f"{rows.places.describe([row])}")
        if given is None:
            targets.append(None)
            continue
        placed = tuple(_placed(text, start, rows.columns[columns.texts[1]][row]) for text, start in given)
        targets.append(tuple((text, place) for text, place, _ in placed))
        if placed and all(place < 0 for _, place, _ in placed):
            absent.append(row)
        elif any(wrong for _, _, wrong in placed):
            moved.append(row)
    unknown = [row for row, found in enumerate(targets) if found is None]
    if unknown and predicted:
        return PreparedSplit(rows, None)
    if unknown:
        raise DataError(
            f"{rows.name}: {rows_text(len(unknown))} without answers in {columns.label!r} "
            f"({rows.places.describe(unknown)}). Give an empty one where a question has no answer."
        )
    if moved:
        notes.append(
            f"{split.name}: {rows_text(len(moved))} whose answer does not stand where answer_start says; the nearest "
            f"place where it does is used ({rows.places.describe(moved, most=3)})"
        )
    known = [found for found in targets if found is not None]
    if absent and trained:
        _refuse_absent(rows, absent, known)
        notes.append(
            f"{split.name}: {rows_text(len(absent))} left out, whose answer is not in the passage "
            f"({rows.places.describe(absent, most=3)})"
        )
        without = set(absent)
        kept = [row for row in range(len(rows)) if row not in without]
        rows, known = rows.take(kept), [known[row] for row in kept]
    elif absent:
        notes.append(
            f"{split.name}: {rows_text(len(absent))} whose answer is not in the passage, so that it cannot be found "
            f"({rows.places.describe(absent, most=3)})"
        )
    classes = [int(bool(found)) for found in known]
    return PreparedSplit(rows, known, classes if len(set(classes)) > 1 else None)


def _without_gaps(rows: RawSplit, columns: Columns, notes: list[str]) -> RawSplit:
    """Without rows whose question or passage is blank."""
    texts = zip(*(rows.columns[name] for name in columns.texts), strict=True)
    blank = [row for row, values in enumerate(texts) if not all(value.strip() for value in values)]
    if not blank:
        return rows
    if len(blank) == len(rows):
        raise DataError(
            f"{rows.name}: no row has both a question and a passage ({rows.places.describe(blank)})."
        )
    notes.append(
        f"{rows.name}: {rows_text(len(blank))} left out without a question or a passage "
        f"({rows.places.describe(blank, most=3)})"
    )
    without = set(blank)
    return rows.take([row for row in range(len(rows)) if row not in without])


def _refuse_absent(rows: RawSplit, absent: list[int], known: Sequence[Answers]) -> None:
    if len(absent) <= _MAX_WRONG * len(rows):
        return
    text = known[absent[0]][0][0]
    raise DataError(
        f"{rows.name}: of {rows_text(len(rows))}, {len(absent):,} have an answer that is not in the passage "
        f"({rows.places.describe(absent)}; the first: {text[:60]!r}). Answers have to be copied "
        "from the passage, letter by letter."
    )


def _answered(role: str, split: PreparedSplit, notes: list[str]) -> PreparedSplit:
    """Without questions that have no answer, where each is to have one; test rows stay."""
    if split.targets is None or role.startswith("test"):
        return split
    kept = [row for row, found in enumerate(split.targets) if found]
    if not kept:
        raise DataError(
            f"{split.rows.name}: no question has an answer, but --version_2_with_negative is false."
        )
    if len(kept) < len(split):
        notes.append(
            f"{split.rows.name}: {rows_text(len(split) - len(kept))} left out, whose question has no answer: "
            "--version_2_with_negative is false"
        )
    return split.take(kept)


def _given(value: Any, first: Any, where: str) -> list[tuple[str, int | None]] | None:
    """The answers of a row as they are written, with their places; None where the row does not say.

    That is a text (with the place in a column of its own), a list of texts, `{"text": [...], "answer_start": [...]}` as
    in the Hub's SQuAD, a list of `{"text": ..., "answer_start": ...}`, or JSON of one of these, as CSV files hold it.
    """
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        with suppress(JsonError):  # else it is a text that begins with a bracket
            value = parse_json(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or isinstance(value, float):  # pandas writes NaN for an empty text
        return [] if isinstance(value, float) else None
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        value = [texts] if isinstance(texts, str) else texts
        first = [starts] if isinstance(starts, int) else starts
    if isinstance(value, str):
        return [] if is_missing(value) else [(value, _whole(first, where))]
    if not isinstance(value, Sequence):
        raise DataError(
            f"{where}: {str(value)[:60]!r} is no answer: a text, or a list of texts with their places."
        )
    if all(isinstance(entry, Mapping) for entry in value):
        first = [entry.get("answer_start") for entry in value]
        value = [entry.get("text") for entry in value]
    if not all(isinstance(entry, str) for entry in value):
        raise DataError(f"{where}: an answer of {str(list(value))[:60]} is no text.")
    places = first if isinstance(first, Sequence) and not isinstance(first, str) else [None] * len(value)
    if len(places) != len(value):
        raise DataError(f"{where}: {len(value)} answers, but {len(places)} places in answer_start.")
    return [(text, _whole(place, where)) for text, place in zip(value, places, strict=True) if text.strip()]


def _whole(value: Any, where: str) -> int | None:
    if is_missing(value):
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: answer_start is {str(value)[:40]!r}, and not a whole number.") from error


def _placed(text: str, start: int | None, context: str) -> tuple[str, int, bool]:
    """An answer, the place where it stands (-1: nowhere), and whether it was said to stand elsewhere.

    Of several places the nearest to the one that is named, else the first.
    """
    if start is not None and start >= 0 and context.startswith(text, start):
        return text, start, False
    if text not in context:
        stripped = text.strip()
        if stripped == text or stripped not in context:
            return text, -1, start is not None
        text = stripped
    if start is None:
        return text, context.index(text), False
    after, before = context.find(text, max(start, 0)), context.rfind(text, 0, max(start, 0) + len(text))
    nearest = min((place for place in (after, before) if place >= 0), key=lambda place: abs(place - start))
    return text, nearest, True


def _dataset(split: PreparedSplit, columns: Columns) -> Dataset:
    from datasets import Dataset, Features, List, Value

    rows = split.rows
    ids = rows.columns["id"] if "id" in rows.columns else [None] * len(rows)
    values: dict[str, Any] = {
        "id": [str(number) if is_missing(name) else str(name) for number, name in enumerate(ids)],
        "question": rows.columns[columns.texts[0]],
        "context": rows.columns[columns.texts[1]],
    }
    kinds: dict[str, Any] = {name: Value("string") for name in values}
    if split.targets is not None:
        values["answers"] = [[text for text, _ in found] for found in split.targets]
        values["answer_start"] = [[place for _, place in found] for found in split.targets]
        kinds |= {"answers": List(Value("string")), "answer_start": List(Value("int32"))}
    return Dataset.from_dict(values, features=Features(kinds))
