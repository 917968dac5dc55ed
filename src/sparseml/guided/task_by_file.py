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
from resparse.delimited import delimiter_of
from sparseml import tasks
from sparseml.data.conll import ENDINGS
from sparseml.data.patterns import matching_files, split_names

_READ: Final = 1 << 16
_PASSAGES: Final = ("context", "passage", "paragraph")
_QUESTIONS_OF: Final = ("squad", "squad_v2", "rajpurkar/squad", "rajpurkar/squad_v2")
_TAGGED: Final = (
    "conll2003",
    "conllpp",
    "wnut_17",
    "eriktks/conll2003",
    "ZihanWangKi/conllpp",
    "leondz/wnut_17",
)
_WORDS: Final = ("tokens", "words")
_TAGS: Final = ("ner_tags", "pos_tags", "chunk_tags", "tags")
# Arguments that only classification has.
_OF_CLASSES: Final = ("task_name", "input_column_names", "label_column_name", "do_regression")
_QUESTION_ANSWERING: Final = "question_answering"
_TOKEN_CLASSIFICATION: Final = "token_classification"


def task_of(words: Sequence[str]) -> str:
    """The task of a training command that names none; says so where that is not the default."""
    given = _values(words)
    dataset, pattern = given.get("dataset_name", ""), given.get("train_file") or given.get("validation_file")
    files = matching_files(split_names(pattern)[0]) if pattern and split_names(pattern) else []
    task = _of_file(files[0]) if files else _of_dataset(dataset)
    if task == _TOKEN_CLASSIFICATION and files and files[0].suffix.lower() in ENDINGS:
        pass  # no other task reads such a file
    elif not given.keys().isdisjoint(_OF_CLASSES):
        return tasks.DEFAULT
    if task != tasks.DEFAULT:
        say(f"task: {task}, by what {pattern or dataset} holds (--task {tasks.DEFAULT} for another)")
    return task


def _of_dataset(name: str) -> str:
    if name.lower() in _QUESTIONS_OF:
        return _QUESTION_ANSWERING
    return _TOKEN_CLASSIFICATION if name.lower() in map(str.lower, _TAGGED) else tasks.DEFAULT


def _of_file(file: Path) -> str:
    """The task of a file, by its ending, its columns or the keys of its objects."""
    ending = file.suffix.lower()
    if ending in ENDINGS:
        return _TOKEN_CLASSIFICATION
    names = _names(file, ending)
    if all(names & set(usual) for usual in (QUESTIONS, _PASSAGES, (*ANSWERS, "qas"))):
        return _QUESTION_ANSWERING
    return _TOKEN_CLASSIFICATION if names & set(_WORDS) and names & set(_TAGS) else tasks.DEFAULT


def _values(words: Sequence[str]) -> dict[str, str]:
    """The flags of a command line that have one value, by name."""
    found = {}
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            found[flag[2:].replace("-", "_")] = value if equals else after
    return found


def _names(file: Path, ending: str) -> set[str]:
    """The columns of a file, or the keys in the beginning of one of JSON."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(_READ).decode("utf-8-sig", errors="ignore")
    except OSError:
        return set()
    if ending in (".csv", ".tsv"):
        with suppress(csv.Error):
            line = beginning.partition("\n")[0]
            header = next(csv.reader([line], delimiter=delimiter_of(ending, line)), [])
            return {name.strip().lower() for name in header}
    if ending in (".json", ".jsonl", ".ndjson"):
        return set(re.findall(r'"(\w+)"\s*:', beginning))
    return set()
