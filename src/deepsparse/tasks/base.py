"""What a task is to the runtime: how inputs become rows, and how a model's outputs become predictions.

    inputs ─parse→ rows ─encode→ encodings ─engine→ Outputs ─decode→ predictions ─output→ what a caller is given

`parse`, `encode`, `decode` and `output` are the task's. Tokenizer, batching, engine, files and HTTP are the same for
all tasks: `deepsparse.pipeline`, `predict`, `benchmark` and `server` ask the task and name none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError
from resparse.arrays import Array

if TYPE_CHECKING:
    from tokenizers import Encoding

    from deepsparse.tokenizer import Tokenizer

Row = Any
"""One input after parsing: a text, a pair of texts, or whatever the task's `encode` takes."""

PredictionT = TypeVar("PredictionT")
OutputT = TypeVar("OutputT", bound="TaskOutput")


@dataclass(frozen=True)
class TaskOutput:
    """The base of what a pipeline and the server give back: a dataclass whose fields are the response's."""

    def model_dump(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)

    def tensors(self) -> Mapping[str, Sequence[Any]]:
        """The fields as the Open Inference Protocol gives them: by name, a value for each row."""
        return {name: value if isinstance(value, list) else [value] for name, value in vars(self).items()}

    dict = model_dump


@dataclass(slots=True)
class Outputs:
    """A model's outputs for some rows, in the order of the rows.

    Attributes:
        arrays: by name, an array of (sequences, ...); of a token-level task a list with an array of (tokens, ...) for
            each sequence, without padding.
        encodings: of each sequence.
        starts: where each row's sequences begin, and the last one's end; None where each row is one sequence.
    """

    arrays: Mapping[str, Any]
    encodings: list[Encoding]
    starts: list[int] | None = None

    def __len__(self) -> int:
        return len(self.encodings) if self.starts is None else len(self.starts) - 1

    def __getitem__(self, rows: slice) -> Outputs:
        first, last, _ = rows.indices(len(self))
        starts = self.starts
        if starts is not None:
            starts = starts[first : last + 1]
            first, last = starts[0], starts[-1]
            starts = [start - first for start in starts]
        arrays = {name: array[first:last] for name, array in self.arrays.items()}
        return Outputs(arrays, self.encodings[first:last], starts)

    def sequences(self, row: int) -> range:
        """The positions of a row's sequences."""
        return range(row, row + 1) if self.starts is None else range(*self.starts[row : row + 2])

    @staticmethod
    def concatenate(parts: Sequence[Outputs]) -> Outputs:
        """The outputs of all rows of all parts."""
        arrays = {name: _joined([part.arrays[name] for part in parts]) for name in parts[0].arrays}
        encodings = [encoding for part in parts for encoding in part.encodings]
        if parts[0].starts is None:
            return Outputs(arrays, encodings)
        counts = [len(part.sequences(row)) for part in parts for row in range(len(part))]
        return Outputs(arrays, encodings, list(accumulate(counts, initial=0)))


class Task(ABC, Generic[PredictionT, OutputT]):
    """A task, and as an instance: the task of one deployed model, with the settings of one pipeline.

    A subclass goes into a file of its own and into the list of `deepsparse.tasks`. Keyword arguments of its `__init__`
    are settings of `Pipeline.create`.

    Attributes:
        name: "text_classification", ...; in `config.json` of a deployment under the key "task".
        aliases: other names that `Pipeline.create` takes.
        noun: what messages call a model of this task.
        pipeline: the subclass of `Pipeline` with attributes of this task; None where `Pipeline` itself will do.
        request: JSON schema of a request's body. Fields that it requires are inputs, the others are options.
        example: a short request: for messages, and answered once as a test when a model is loaded.
        output_names: the model's outputs as `decode` knows them; a model with other names gives them in this order.
        token_level: whether the outputs have one entry for each token (dimension 1).
        offsets: whether `decode` needs the tokens' places in the text.
        truncation: what long pairs lose: "longest_first", "only_first" or "only_second".
        stride: tokens that the windows of a long row have in common; 0 cuts them off one another.
        windows: whether long rows are read in windows, rather than cut to one.
        usual_length: tokens that rows are cut to where nothing else is asked for.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    noun: ClassVar[str] = "model"
    pipeline: ClassVar[type[Any] | None] = None
    request: ClassVar[Mapping[str, Any]]
    example: ClassVar[Mapping[str, Any]]
    output_names: ClassVar[tuple[str, ...]] = ("logits",)
    token_level: ClassVar[bool] = False
    offsets: ClassVar[bool] = False
    truncation: ClassVar[str] = "longest_first"
    windows: ClassVar[bool] = False
    stride: int = 0
    usual_length: int = 128

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    @classmethod
    @abstractmethod
    def parse(cls, fields: Mapping[str, Any]) -> list[Row]:
        """The rows of a request, or of a call with keywords.

        Raises:
            InputError: a field is missing, or holds no input; with its position.
        """

    @classmethod
    @abstractmethod
    def parse_rows(cls, inputs: Any) -> list[Row]:
        """The rows of a call with one argument: an input, a list of inputs, or rows.

        Raises:
            InputError: something that is no input; with its position.
        """

    @classmethod
    def options(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What a request asks of `decode` and `output`, as their keywords.

        Raises:
            InputError: a value that makes no sense.
        """
        return {}

    @classmethod
    @abstractmethod
    def find_columns(cls, available: Sequence[str], asked: str | None, path: Path) -> list[str]:
        """The columns of a file that make a row.

        Args:
            available: all columns of the file.
            asked: names with a comma between; None finds them by their usual names.
            path: of the file, for errors.

        Raises:
            TableError: there are no such columns.
        """

    @classmethod
    @abstractmethod
    def parse_values(cls, values: Sequence[Any], where: str) -> Row:
        """The row that the values of these columns make.

        Args:
            where: what errors call the row.

        Raises:
            InputError: they make none.
        """

    def fit(self, max_length: int, special: int) -> int:
        """Settle, before the tokenizer is used, what depends on its length; returns the `stride`.

        Args:
            max_length: tokens that a row is cut to.
            special: tokens among them that belong to no text, of a row of two texts.

        Raises:
            EngineError: the length is too small.
        """
        return self.stride

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[Encoding]:
        """Tokens of the rows, an encoding each; further windows of a row are its encoding's `overflowing`."""
        return tokenizer.encode(rows, self.offsets)

    def check(self, outputs: Outputs) -> None:
        """Refuse outputs that do not belong to this configuration.

        Raises:
            ModelError: model and configuration are not of one export; with the file to mend.
        """

    @abstractmethod
    def decode(self, rows: Sequence[Row], outputs: Outputs, **options: Any) -> list[PredictionT]:
        """A prediction for each row.

        Raises:
            ModelError: outputs that are no numbers.
        """

    def label_scores(self, outputs: Outputs, raw: bool = False) -> tuple[tuple[str, ...], Array] | None:
        """The labels, and a score of each for each row: [rows, labels]; None of a task that has no such thing.

        Args:
            raw: logits in the place of scores.
        """
        return None

    @abstractmethod
    def output(self, predictions: Sequence[PredictionT], **options: Any) -> OutputT:
        """What a call and the server give back."""

    @abstractmethod
    def columns(self) -> list[str]:
        """The columns that `sparseml predict` adds to a file."""

    @abstractmethod
    def values(self, prediction: PredictionT) -> list[Any]:
        """A prediction's values in these columns; of plain types."""


def check_positive(name: str, value: object) -> None:
    """Refuse a setting that is no whole number from 1 on, nor None, with an EngineError."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise EngineError(f"{name}={value!r}: a whole number from 1 on is wanted.")


def _joined(arrays: Sequence[Any]) -> Any:
    if isinstance(arrays[0], list):
        return [array for part in arrays for array in part]
    return np.concatenate(arrays)
