"""What may be classified: a text, or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepsparse.errors import InputError

Row = str | tuple[str, str]

_WANTED = "a text, a list of texts, or a list of [text, text] pairs"


def parse_rows(sequences: Any) -> list[Row]:
    """The rows that a caller's `sequences` mean.

    Args:
        sequences: a text, a list of texts, or a list whose items are lists of one or two texts.

    Raises:
        InputError: anything else, or a row without text; with its position.
    """
    if isinstance(sequences, str):
        return [parse_row(sequences, "The text")]
    if not isinstance(sequences, Sequence) or isinstance(sequences, bytes | bytearray):
        raise InputError(f"sequences is {_kind(sequences)}; wanted: {_WANTED}.")
    return [parse_row(item, f"sequences[{index}]") for index, item in enumerate(sequences)]


def parse_row(item: Any, where: str) -> Row:
    """One row: a text, or a list of one or two.

    Args:
        where: what to call the row in an error.

    Raises:
        InputError: it is neither, or there is no text in it.
    """
    texts = (item,) if isinstance(item, str) else item
    if not isinstance(texts, list | tuple):
        raise InputError(f"{where} is {_kind(item)}; wanted: {_WANTED}.")
    if not 1 <= len(texts) <= 2:
        raise InputError(f"{where} is a list of {len(texts)}; a row is one text or a pair of texts.")
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{where} holds {_kind(text)}; wanted: {_WANTED}.")
        if not _encodable(text):
            raise InputError(f"{where} is no Unicode text: it holds half of a surrogate pair.")
    if not any(map(has_text, texts)):
        raise InputError(f"{where} is empty: there is nothing to classify.")
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def has_text(text: str) -> bool:
    """Whether a text holds more than white space and control characters, which tokenizers drop."""
    return any(character.isprintable() and not character.isspace() for character in text)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", dict: "an object", int: "a number", float: "a number"}
    return names.get(type(value), f"of type {type(value).__name__}")
