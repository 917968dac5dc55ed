"""`Pipeline`: inputs in, predictions out, from a deployment folder; the same for every task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic

from deepsparse import tasks
from deepsparse.backends import AUTOMATIC
from deepsparse.deployment import Deployment, open_deployment
from deepsparse.engine import Engine
from deepsparse.errors import EngineError
from deepsparse.lengths import Lengths
from deepsparse.tasks.base import Outputs, OutputT, PredictionT, Row, Task, check_positive
from resparse.console import say_once
from resparse.errors import did_you_mean
from resparse.progress import track

# Streams read this many rows at a time: enough to sort by length, few enough for the memory.
WINDOW = 2048
USUAL_LENGTH = 0
"""In the place of a length: the task's own."""
_WITHOUT_EFFECT = ("input_shapes", "alias", "context", "executor", "benchmark", "trust_remote_code")


class Pipeline(Generic[PredictionT, OutputT]):
    """A model with its tokenizer, and the task that says what its outputs mean.

    `Pipeline.create` makes the pipeline of a task. Subclasses add attributes of their task.

    Args:
        model_path: see `Pipeline.create`.
        task: its name; None means what the deployment says.
        engine_type: "deepsparse" (the best that can run the model here), "native", "onnxruntime", "openvino", ...
        batch_size: rows computed at a time, at most; None lets the number of tokens decide.
        num_cores: threads that compute; by default all that this process may use.
        num_streams, scheduler: see `Engine`; by default as many batches side by side as there are cores.
        sequence_length: tokens that a text is cut to (special ones included); the greatest, of a list. Texts
            are never padded to it. By default the task's usual length: 128, or what a deployment that reads in windows
            was trained with.
        settings: of the task.

    Attributes:
        task: its name.
        handler: the task, as an object.
        engine: what computes.
        model_path: the ONNX file.
        sequence_length: tokens that a text is cut to.
        sample: the predictions of the task's example, by a first run.

    Raises:
        ModelError, EngineError: see `Pipeline.create`.
    """

    task: str | None = None
    handler: Task[PredictionT, OutputT]

    def __init__(
        self,
        model_path: str | Path | Deployment,
        *,
        task: str | None = None,
        engine_type: str = AUTOMATIC,
        batch_size: int | None = None,
        num_cores: int | None = None,
        num_streams: int | None = None,
        scheduler: str | None = None,
        sequence_length: int | Sequence[int] | None = USUAL_LENGTH,
        **settings: Any,
    ) -> None:
        try:
            from deepsparse.batching import BatchRunner
            from deepsparse.tokenizer import load_tokenizer
        except ModuleNotFoundError as error:
            if error.name != "tokenizers":
                raise
            raise EngineError(
                "Reading texts needs the package 'tokenizers', which is not installed: pip install 'resparse[runtime]'."
            ) from error

        check_positive("batch_size", batch_size)
        deployment = open_deployment(model_path)
        self.model_path = deployment.model
        self.handler = tasks.of_deployment(deployment, self.task or task)(deployment, **settings)
        self.task = self.handler.name
        longest = _longest(self.handler.usual_length if sequence_length == USUAL_LENGTH else sequence_length)
        tokenizer = load_tokenizer(deployment, longest, self.handler.truncation)
        tokenizer.set_stride(self.handler.fit(tokenizer.max_length, tokenizer.special))
        self.sequence_length = tokenizer.max_length
        self.engine = Engine(
            deployment.model,
            batch_size,
            num_cores,
            num_streams,
            scheduler or "async",
            engine_type=engine_type,
        )
        self._runner = BatchRunner(self.engine, tokenizer, self.handler, batch_size)
        # A first run shows whether model, labels and tokenizer belong together.
        rows = self.handler.sample()
        outputs = self.run(rows)
        self.handler.check(outputs)
        self.sample = self.handler.decode(rows, outputs)

    @staticmethod
    def create(
        task: str | None = None,
        model_path: str | Path | Deployment | None = None,
        *,
        model: str | Path | Deployment | None = None,
        **settings: Any,
    ) -> Any:
        """Make a pipeline.

        Args:
            task: "text_classification", or one of its other names ("glue", "sentiment_analysis"); None means what
                the deployment says.
            model_path: a deployment folder, an ONNX file, a `zoo:` stub or `hf:` and a repository's name; or what
                `open_deployment` makes of one.
            model: another name for `model_path`.
            settings: see `Pipeline` and the task's own pipeline.

        Raises:
            EngineError: an unknown task or setting (gives the nearest), or a model of another task.
            ModelError: the model is missing, damaged, or does not fit its own files.
        """
        found = tasks.find(task) if task is not None else None
        source = model_path if model_path is not None else model
        if source is None:
            raise EngineError(
                "Which model? Give model_path: a deployment folder, an .onnx file or a zoo: stub."
            )
        if found is None:
            source = open_deployment(source)
            found = tasks.of_deployment(source)
        known = settings_of(found)
        for name, value in list(settings.items()):
            if name in _WITHOUT_EFFECT:
                settings.pop(name)
                if value not in (None, False):
                    say_once(f"Pipeline.create: {name} has no effect here.")
            elif name in ("config", "tokenizer"):
                settings.pop(name)
                say_once(f"Pipeline.create: {name} is taken from the model's folder.")
            elif name not in known:
                raise EngineError(f"Pipeline.create knows no {name!r}. {did_you_mean(name, known)}")
        return (found.pipeline or Pipeline)(source, task=found.name, **settings)

    def __call__(self, inputs: Any = None, /, **fields: Any) -> OutputT:
        """Answer an input, a list of inputs, or the fields of a request as keywords.

        Raises:
            InputError: something that is no input of the task, or empty; with its position.
        """
        return self.output(self.predict(inputs, **fields))

    def predict(self, inputs: Any = None, /, **fields: Any) -> list[PredictionT]:
        """Answer as a call does, with a prediction for each row."""
        rows = self.handler.parse(fields) if fields else self.handler.parse_rows(inputs)
        return self.handler.decode(rows, self.run(rows)) if rows else []

    def run(
        self,
        rows: Sequence[Row],
        spread: bool = True,
        on_tokenized: Callable[[], object] | None = None,
    ) -> Outputs:
        """The model's outputs, in the order of the rows.

        Args:
            rows: one or more, as the task parses inputs.
            spread: over the engine's streams; False stays in the thread of the caller, who has several.
            on_tokenized: called between the tokenizer and the engine.

        Raises:
            InputError: rows of another kind than the model was trained on; with the position.
        """
        self.handler.check_rows(rows)
        return self._runner.run(rows, spread, on_tokenized)

    def stream(self, sequences: Iterable[Any], progress: bool = False) -> Iterator[PredictionT]:
        """Answer any number of inputs, in order, holding few of them at a time.

        Args:
            progress: show a bar once it has taken two seconds.

        Raises:
            InputError: something that is no input; its position counts from the first of its `WINDOW` rows.
        """
        source = iter(track(sequences, "classifying") if progress else sequences)
        while window := list(islice(source, WINDOW)):
            yield from self.predict(window)

    def output(self, predictions: Sequence[PredictionT], *arguments: Any, **options: Any) -> OutputT:
        """The predictions as a call gives them; with options of a request where they are given."""
        return self.handler.output(predictions, *arguments, **options)

    def describe(self) -> dict[str, Any]:
        """What a client may want to know of the model."""
        return {"sequence_length": self.sequence_length}

    @property
    def lengths(self) -> Lengths:
        """How many rows were longer than the model takes."""
        return self._runner.lengths

    def close(self) -> None:
        """Stop the threads; the pipeline is not to be called any more."""
        self._runner.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.model_path)!r}, engine={self.engine.engine_type!r})"


def settings_of(task: type[Task[Any, Any]]) -> list[str]:
    """The keywords that `Pipeline.create` takes for a task."""
    own = [*inspect.signature(Pipeline).parameters.values(), *inspect.signature(task).parameters.values()]
    names = [parameter.name for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
    return [name for name in names if name != "task"]


def _longest(sequence_length: int | Sequence[int] | None) -> int | None:
    """The one length that matters: nothing is padded to it, so the shorter ones of a list have no effect."""
    lengths = [sequence_length] if isinstance(sequence_length, int) else list(sequence_length or ())
    for length in lengths:
        check_positive("sequence_length", length)
    return max(lengths, default=None)
