"""Column files of tagged words, as CoNLL's tasks have them: a word a line, an empty line after each sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sparseml.data.rows import DataError, Places, RawSplit

TOKENS: Final = "tokens"
TAGS: Final = "tags"
ENDINGS: Final = (".conll", ".bio", ".iob", ".iob2", ".txt")
"""Of column files; .txt is one only for tasks of tagged words."""

_DOCUMENT: Final = "-DOCSTART-"
# Of CoNLL-2003: word, part of speech, chunk, entity.
_OF_2003: Final = (TOKENS, "pos_tags", "chunk_tags", TAGS)


def read_columns(path: Path, text: str) -> RawSplit:
    """Read a column file: words in the first column, tags in the last, those between under `column_2`, ...

    Columns are separated by tabs, or by blanks where no line of words has a tab. Lines before a sentence that begin
    with "#" are comments unless they have as many columns as words have, and -DOCSTART- lines are no words.

    Returns:
        Lists of words and of tags, a row for each sentence, at the line of its first word. Files of four columns have
        CoNLL-2003's `pos_tags` and `chunk_tags`.

    Raises:
        DataError: a line with more or fewer columns than the first, or one column only; names the line.
    """
    lines = text.splitlines() if "\r" in text else text.split("\n")
    tabs = any("\t" in line.strip() for line in lines if not line.startswith("#"))
    sentences: list[list[list[str]]] = []
    starts: list[int] = []
    inside, width = False, _width(lines, tabs)
    for number, line in enumerate(lines, start=1):
        fields = _fields(line, tabs)
        if not any(fields) or fields[0] == _DOCUMENT:
            inside = False
            continue
        if line.startswith("#") and not inside and (len(fields) != width or "=" in fields[1:3]):
            continue
        if len(fields) != width or width < 2 or not all(fields):
            raise DataError(_message(path, number, len(fields), width, tabs))
        if not inside:
            sentences.append([])
            starts.append(number)
            inside = True
        sentences[-1].append(fields)
    if not sentences:
        raise DataError(f"{path}: the file has no words.")
    names = _names(width)
    columns = {
        name: [[fields[place] for fields in sentence] for sentence in sentences]
        for place, name in enumerate(names)
    }
    return RawSplit(str(path), columns, Places.of(str(path), "line", starts))


def _fields(line: str, tabs: bool) -> list[str]:
    return [field.strip() for field in line.split("\t")] if tabs else line.split()


def _width(lines: Sequence[str], tabs: bool) -> int:
    """Columns of the first line that is no comment; 0 where there is none."""
    rows = (_fields(line, tabs) for line in lines if not line.startswith("#"))
    return next((len(row) for row in rows if any(row) and row[0] != _DOCUMENT), 0)


def _names(width: int) -> tuple[str, ...]:
    if width == len(_OF_2003):
        return _OF_2003
    return (TOKENS, *(f"column_{place}" for place in range(2, width)), TAGS)


def _message(path: Path, number: int, found: int, width: int, tabs: bool) -> str:
    wanted = (
        "a word and its tag in each line, separated by a tab or a blank, and an empty line after a sentence"
    )
    if width < 2:
        return f"{path}, line {number}: one column; wanted is {wanted}."
    mark = "tabs" if tabs else "blanks"
    if found == width:
        return f"{path}, line {number}: a column is empty; wanted is {wanted}."
    return (
        f"{path}, line {number}: {found} column{'s' if found > 1 else ''} separated by {mark}, and {width} in the "
        f"lines before; wanted is {wanted}."
    )
