"""What a task is to the runtime: how inputs become rows, and how a model's outputs become predictions.

    inputs ─parse→ rows ─encode→ encodings ─engine→ Outputs ─decode→ predictions ─output→ what a caller is given

`parse`, `encode`, `decode` and `output` are the task's. Tokenizer, batching, engine, files and HTTP are the same for
all tasks: `deepsparse.pipeline`, `predict`, `benchmark` and `server` ask the task and name none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError
from deepsparse.rows import TableError
from resparse.errors import did_you_mean
from resparse.text_columns import trained_on

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


@dataclass(slots=True)
class Sequences:
    """The tokens of some rows.

    Attributes:
        encodings, starts: see `Outputs`.
        longer: rows that are longer than the model takes.
        unread: of these, rows of which a part is in no sequence.
    """

    encodings: list[Encoding]
    starts: list[int] | None = None
    longer: int = 0
    unread: int = 0


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
        example: a short request, for messages.
        rows_have: how many columns may make a row; of a model that says which it was trained on, as many as those.
        made_of: these columns, for messages.
        output_names: the model's outputs as `decode` knows them; a model with other names gives them in this order.
        token_level: whether the outputs have one entry for each token (dimension 1).
        offsets: whether `decode` needs the tokens' places in the text.
        truncation: what long pairs lose: "longest_first", "only_first" or "only_second".
        stride: tokens that the windows of a long row have in common; 0 cuts them off one another.
        windows: whether long rows are read in windows, rather than cut to one.
        label_set: of a task that gives each text labels, their names and how logits become scores; else None.
        usual_length: tokens that rows are cut to where nothing else is asked for.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    noun: ClassVar[str] = "model"
    pipeline: ClassVar[type[Any] | None] = None
    request: ClassVar[Mapping[str, Any]]
    example: ClassVar[Mapping[str, Any]]
    rows_have: ClassVar[range] = range(1, 2)
    made_of: ClassVar[str] = "one column, the text's"
    output_names: ClassVar[tuple[str, ...]] = ("logits",)
    token_level: ClassVar[bool] = False
    offsets: ClassVar[bool] = False
    truncation: str = "longest_first"
    windows: bool = False
    stride: int = 0
    label_set: Any = None
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
    def find_columns(
        cls, available: Sequence[str], asked: str | None, path: Path, trained: Sequence[str] = ()
    ) -> list[str]:
        """The columns of a file that make a row.

        Args:
            available: all columns of the file.
            asked: names with a comma between; None takes the model's own, or finds them by their usual names.
            path: of the file, for errors.
            trained: the columns that the model was trained on; () where that is not known.

        Raises:
            TableError: there are no such columns, or fewer or more than the model reads.
        """
        if asked:
            names = asked_columns(available, asked, path)
        elif trained and set(trained) <= set(available):
            names = list(trained)
        else:
            names = cls.usual_columns(available, path)
        if trained and len(names) != len(trained):
            raise TableError(
                f"{path}: {' and '.join(map(repr, names))} {'make' if len(names) > 1 else 'makes'} no row: the model "
                f"was trained on {trained_on(trained)}. Choose with --input_column_names: {', '.join(available)}."
            )
        if len(names) not in cls.rows_have:
            raise TableError(f"--input_column_names {asked}: {cls.made_of}.")
        return names

    @classmethod
    @abstractmethod
    def usual_columns(cls, available: Sequence[str], path: Path) -> list[str]:
        """Those columns of a file that make a row by their names; a TableError where none do."""

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

    def sequences(self, tokenizer: Tokenizer, rows: Sequence[Row]) -> Sequences:
        """What the engine is given for the rows."""
        encodings = self.encode(tokenizer, rows)
        if not (self.windows or self.stride):
            longer = sum(map(tokenizer.was_cut, encodings))
            return Sequences(encodings, None, longer, unread=longer)
        windows = [[encoding, *encoding.overflowing] for encoding in encodings]
        starts = list(accumulate(map(len, windows), initial=0))
        longer = sum(len(each) > 1 for each in windows)
        return Sequences(list(chain.from_iterable(windows)), starts, longer)

    def reduce(self, outputs: Outputs) -> Outputs:
        """What `decode` is given of the engine's outputs; by default all."""
        return outputs

    def sample(self) -> list[Row]:
        """A short row, which is answered once as a test when a model is loaded."""
        return self.parse(self.example)

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Refuse rows that are not of the kind that the model was trained on.

        Raises:
            InputError: with the position.
        """

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

    @abstractmethod
    def output(self, predictions: Sequence[PredictionT], **options: Any) -> OutputT:
        """What a call and the server give back."""

    @abstractmethod
    def columns(self) -> list[str]:
        """The columns that `sparseml predict` adds to a file."""

    @abstractmethod
    def values(self, prediction: PredictionT) -> list[Any]:
        """A prediction's values in these columns; of plain types."""


def asked_columns(available: Sequence[str], asked: str, path: Path) -> list[str]:
    """Names of columns with a comma between, as a list; a TableError for one that is not available."""
    if asked in available:
        return [asked]  # a column's own name may hold a comma
    names = [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in available:
            raise TableError(f"{path} has no column {name!r}. {did_you_mean(name, available)}")
    return names


def check_positive(name: str, value: object) -> None:
    """Refuse a setting that is no whole number from 1 on, nor None, with an EngineError."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise EngineError(f"{name}={value!r}: a whole number from 1 on is wanted.")


def _joined(arrays: Sequence[Any]) -> Any:
    if isinstance(arrays[0], list):
        return [array for part in arrays for array in part]
    return np.concatenate(arrays)
