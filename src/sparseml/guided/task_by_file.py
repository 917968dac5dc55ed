"""Which task the training rows are for, by the names in the beginning of their file; PyTorch is not imported."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Final

from resparse.column_names import ANSWERS, QUESTIONS
from resparse.console import say
from sparseml import tasks
from sparseml.data.patterns import matching_files, split_names

_READ: Final = 1 << 16
_PASSAGES: Final = ("context", "passage", "paragraph")
_QUESTIONS_OF: Final = ("squad", "squad_v2", "rajpurkar/squad", "rajpurkar/squad_v2")
# Arguments that only classification has.
_OF_CLASSES: Final = ("task_name", "input_column_names", "label_column_name", "do_regression")


def task_of(words: Sequence[str]) -> str:
    """The task of a training command that names none; says so where that is not the default."""
    given = _values(words)
    if not given.keys().isdisjoint(_OF_CLASSES):
        return tasks.DEFAULT
    dataset, pattern = given.get("dataset_name", ""), given.get("train_file") or given.get("validation_file")
    asks = dataset.lower() in _QUESTIONS_OF
    if pattern:
        names = split_names(pattern)
        file = next((path for name in names for path in matching_files(name)), None)
        asks = file is not None and _asks_questions(file)
    if not asks:
        return tasks.DEFAULT
    say(f"task: question_answering, by what {pattern or dataset} holds (--task {tasks.DEFAULT} for another)")
    return "question_answering"


def _values(words: Sequence[str]) -> dict[str, str]:
    """The flags of a command line that have one value, by name."""
    found = {}
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            found[flag[2:].replace("-", "_")] = value if equals else after
    return found


def _asks_questions(file: Path) -> bool:
    """Whether a file has a column, or objects a key, for each of question, passage and answer."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(_READ).decode("utf-8-sig", errors="ignore")
    except OSError:
        return False
    ending = file.suffix.lower()
    if ending in (".csv", ".tsv"):
        names: set[str] = set()
        with suppress(csv.Error):
            delimiter = "\t" if ending == ".tsv" else ","
            names = {
                name.strip().lower()
                for name in next(csv.reader([beginning.partition("\n")[0]], delimiter=delimiter), [])
            }
    elif ending in (".json", ".jsonl", ".ndjson"):
        names = set(re.findall(r'"(\w+)"\s*:', beginning))
    else:
        return False
    return all(names & set(usual) for usual in (QUESTIONS, _PASSAGES, (*ANSWERS, "qas")))
