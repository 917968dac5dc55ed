"""Tasks whose inputs are texts or pairs of texts: their requests, calls and columns."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from deepsparse.deployment import Deployment
from deepsparse.errors import InputError
from deepsparse.rows import TableError
from deepsparse.tasks.base import OutputT, PredictionT, Task
from resparse.column_names import PAIRS, TEXTS, by_name
from resparse.text_columns import trained_on

TextRow = str | tuple[str, str]

SEQUENCES: Mapping[str, Any] = {
    "description": "A text, a list of texts, or a list of [text, text] pairs.",
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
                ]
            },
        },
    ],
}
"""JSON schema of the field `sequences`."""

_WANTED = "a text, a list of texts, or a list of [text, text] pairs"


class TextTask(Task[PredictionT, OutputT], ABC):
    """A task whose rows are texts or pairs of texts, in the field `sequences`."""

    request: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["sequences"],
        "additionalProperties": False,
        "properties": {"sequences": SEQUENCES},
    }
    example: ClassVar[Mapping[str, Any]] = {"sequences": ["What a day!"]}
    rows_have = range(1, 3)
    made_of = "one column, or two for pairs"

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self._trained = deployment.text_columns()

    def sample(self) -> list[TextRow]:
        if len(self._trained) > 1:
            return [("What a day!", "It was a long one.")]
        return self.parse(self.example)

    def check_rows(self, rows: Sequence[TextRow]) -> None:
        if not self._trained:
            return
        pairs = len(self._trained) > 1
        for place, row in enumerate(rows):
            if isinstance(row, str) is pairs:
                form = "each is [text, text]" if pairs else "each is a text by itself"
                raise InputError(
                    f"sequences[{place}] is {'one text' if pairs else 'a pair of texts'}: the model was trained on "
                    f"{trained_on(self._trained)}; {form}."
                )

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> list[TextRow]:
        if "sequences" not in fields:
            raise InputError('The field "sequences" is missing: a text, or a list of texts.')
        return cls.parse_rows(fields["sequences"])

    @classmethod
    def parse_rows(cls, inputs: Any) -> list[TextRow]:
        """The rows of a text, a list of texts, or a list whose items are lists of one or two texts.

        Arrays of NumPy and columns of pandas are lists, too. Of several, some may be empty: the model answers those as
        it answers no text at all.
        """
        if not isinstance(inputs, str) and hasattr(inputs, "tolist"):
            inputs = inputs.tolist()
        if isinstance(inputs, str):
            return [cls.parse_values(inputs, "The text")]
        if not isinstance(inputs, Sequence) or isinstance(inputs, bytes | bytearray):
            raise InputError(f"sequences is {kind(inputs)}; wanted: {_WANTED}.")
        rows = [cls._parse_row(item, f"sequences[{index}]") for index, item in enumerate(inputs)]
        if rows and not any(map(_is_filled, rows)):
            where = "sequences[0]" if len(rows) == 1 else "Every text of sequences"
            raise InputError(f"{where} is empty: there is nothing to classify.")
        return rows

    @classmethod
    def parse_values(cls, values: Any, where: str) -> TextRow:
        """The row of a text, or of a list of one or two."""
        row = cls._parse_row(values, where)
        if not _is_filled(row):
            raise InputError(f"{where} is empty: there is nothing to classify.")
        return row

    @classmethod
    def _parse_row(cls, values: Any, where: str) -> TextRow:
        texts = (values,) if isinstance(values, str) else values
        if not isinstance(texts, list | tuple):
            raise InputError(f"{where} is {kind(values)}; wanted: {_WANTED}.")
        if not 1 <= len(texts) <= 2:
            raise InputError(f"{where} is a list of {len(texts)}; a row is one text or a pair of texts.")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{where} holds {kind(text)}; wanted: {_WANTED}.")
            if not encodable(text):
                raise InputError(f"{where} is no Unicode text: it holds half of a surrogate pair.")
        return texts[0] if len(texts) == 1 else (texts[0], texts[1])

    @classmethod
    def usual_columns(cls, available: Sequence[str], path: Path) -> list[str]:
        for pair in PAIRS:
            found = [column for usual in pair if (column := by_name((usual,), available)) is not None]
            if len(found) == len(pair):
                return found
        if (single := by_name(TEXTS, available)) is not None:
            return [single]
        if len(available) == 1:
            return list(available)
        raise TableError(
            f"Which column of {path} holds the text? Choose with --input_column_names: {', '.join(available)}."
        )


def has_text(text: str) -> bool:
    """Whether a text holds more than white space and control characters, which tokenizers drop."""
    return any(character.isprintable() and not character.isspace() for character in text)


def _is_filled(row: TextRow) -> bool:
    return has_text(row) if isinstance(row, str) else any(map(has_text, row))


def encodable(text: str) -> bool:
    """Whether a text is whole: half of a surrogate pair, which JSON may hold, is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: Any) -> str:
    """What a value is, in a message."""
    names = {type(None): "null", bool: "true or false", dict: "an object", int: "a number", float: "a number"}
    return names.get(type(value), f"of type {type(value).__name__}")
