"""`Pipeline`: text in, labels out, from a deployment folder."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse.backends import AUTOMATIC
from deepsparse.deployment import CONFIG, open_deployment
from deepsparse.engine import Engine
from deepsparse.errors import EngineError
from deepsparse.inputs import parse_rows
from deepsparse.labels import LabelSet, Prediction, ProblemType, label_set
from resparse.arrays import Array
from resparse.console import say_once
from resparse.errors import did_you_mean
from resparse.progress import track

TASKS = {"text_classification": ("glue", "sentiment_analysis")}
"""The tasks, and the other names that they have."""

# Streams read this many rows at a time: enough to sort by length, few enough to hold.
WINDOW = 2048
_WITHOUT_EFFECT = ("input_shapes", "alias", "context", "executor", "benchmark", "trust_remote_code")


@dataclass(frozen=True)
class TextClassificationOutput:
    """What was found, in the order of the input.

    Attributes:
        labels: a name for each row; with `top_k` above 1, a list of names, best first.
        scores: likewise.
    """

    labels: list[str] | list[list[str]]
    scores: list[float] | list[list[float]]

    def model_dump(self) -> dict[str, Any]:
        """A dictionary of both."""
        return asdict(self)

    dict = model_dump


class Pipeline:
    """The way in: `Pipeline.create` makes the pipeline of a task."""

    @staticmethod
    def create(
        task: str, model_path: str | Path | None = None, *, model: str | Path | None = None, **settings: Any
    ) -> TextClassificationPipeline:
        """Make a pipeline.

        Args:
            task: "text_classification", or one of its other names ("glue", "sentiment_analysis").
            model_path: a deployment folder, an ONNX file, a `zoo:` stub or `hf:` and a repository's name.
            model: another name for `model_path`.
            settings: see `TextClassificationPipeline`.

        Raises:
            EngineError: an unknown task or setting; gives the nearest.
            ModelError: the model is missing, damaged, or does not fit its own files.
        """
        normal_task(task)
        source = model_path if model_path is not None else model
        if source is None:
            raise EngineError(
                "Which model? Give model_path: a deployment folder, an .onnx file or a zoo: stub."
            )
        known = [*inspect.signature(TextClassificationPipeline).parameters][1:]
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
        return TextClassificationPipeline(source, **settings)


class TextClassificationPipeline(Pipeline):
    """A text classifier.

    Args:
        model_path: see `Pipeline.create`.
        engine_type: "deepsparse" (the best that can run the model here), "native", "onnxruntime", "openvino", ...
        batch_size: rows computed at a time, at most; None lets the number of tokens decide.
        num_cores: threads that compute; by default all that this process may use.
        num_streams, scheduler: see `Engine`; by default as many batches side by side as there are cores.
        sequence_length: tokens that a text is cut to (special ones included); the greatest, of a list. Texts
            are never padded to it.
        top_k: labels given for each text, best first.
        return_all_scores: give all labels.

    Attributes:
        labels: the names of the labels, in the order of the logits.
        engine: what computes.

    Raises:
        ModelError, EngineError: see `Pipeline.create`.
    """

    task = "text_classification"

    def __init__(
        self,
        model_path: str | Path,
        *,
        engine_type: str = AUTOMATIC,
        batch_size: int | None = None,
        num_cores: int | None = None,
        num_streams: int | None = None,
        scheduler: str | None = None,
        sequence_length: int | Sequence[int] | None = 128,
        top_k: int = 1,
        return_all_scores: bool = False,
    ) -> None:
        from deepsparse.batching import Classifier
        from deepsparse.tokenization import load_tokenizer

        _check_positive("batch_size", batch_size)
        _check_positive("top_k", top_k)
        longest = _longest(sequence_length)
        deployment = open_deployment(model_path)
        config_file = str(deployment.folder / CONFIG)
        self.model_path = deployment.model
        self._label_set: LabelSet = label_set(deployment.config, config_file)
        tokenizer = load_tokenizer(deployment, longest)
        self.sequence_length = tokenizer.max_length
        self.engine = Engine(
            deployment.model,
            batch_size,
            num_cores,
            num_streams,
            scheduler or "async",
            engine_type=engine_type,
        )
        self._classifier = Classifier(self.engine, tokenizer, batch_size)
        self.top_k = len(self.labels) if return_all_scores else min(top_k, len(self.labels))
        # A first answer: it shows whether model, labels and tokenizer belong together.
        logits = self._classifier.logits(["Is anybody there?"])
        self._label_set.check(logits, config_file)
        self._label_set.scores(logits)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the logits."""
        return self._label_set.names

    @property
    def problem_type(self) -> ProblemType:
        """What the model decides, as `config.json` calls it."""
        return self._label_set.problem

    def __call__(self, sequences: Any) -> TextClassificationOutput:
        """Classify a text, a list of texts, or a list of [text, text] pairs.

        Raises:
            InputError: something that is no text, or empty; with its position.
        """
        return self.output(self.predict(sequences))

    def predict(self, sequences: Any) -> list[Prediction]:
        """Classify, and give a `Prediction` for each row."""
        return self.decide(self.logits(sequences))

    def logits(self, sequences: Any, spread: bool = True) -> Array:
        """What the model itself gives: (rows, labels), in the order of the rows.

        Args:
            sequences: as for a call.
            spread: over the engine's streams; False stays in the thread of the caller, who has several.
        """
        rows = parse_rows(sequences)
        if not rows:
            return np.empty((0, len(self.labels)), np.float32)
        return self._classifier.logits(rows, spread)

    def decide(self, logits: Array, top_k: int | None = None) -> list[Prediction]:
        """Name and score logits; with `top_k` other than the pipeline's own, where it is given."""
        return self._label_set.best(logits, top_k or self.top_k)

    def stream(self, sequences: Iterable[Any], progress: bool = False) -> Iterator[Prediction]:
        """Classify any number of rows, in order, holding few of them at a time.

        Args:
            sequences: texts or pairs.
            progress: show a bar once it has taken two seconds.

        Raises:
            InputError: a row that is no text; its position counts from the first of its `WINDOW` rows.
        """
        source = iter(track(sequences, "classifying") if progress else sequences)
        while window := list(islice(source, WINDOW)):
            yield from self.predict(window)

    def output(self, predictions: Sequence[Prediction], top_k: int | None = None) -> TextClassificationOutput:
        """The predictions as a pipeline gives them."""
        if (top_k or self.top_k) == 1:
            return TextClassificationOutput(
                [prediction.label for prediction in predictions],
                [prediction.score for prediction in predictions],
            )
        return TextClassificationOutput(
            [prediction.labels for prediction in predictions],
            [prediction.scores for prediction in predictions],
        )

    def close(self) -> None:
        """Let the threads go; the pipeline is not to be called any more."""
        self._classifier.close()

    def __repr__(self) -> str:
        return f"TextClassificationPipeline({str(self.model_path)!r}, engine={self.engine.engine_type!r})"


def normal_task(task: str) -> str:
    """A task's own name, from any of its names, whatever their case and hyphens.

    Raises:
        EngineError: there is no such task; gives the nearest.
    """
    normal = str(task).strip().lower().replace("-", "_").replace(" ", "_")
    for name, aliases in TASKS.items():
        if normal in (name, *aliases):
            return name
    names = [name for name, aliases in TASKS.items() for name in (name, *aliases)]
    raise EngineError(f"There is no task {task!r}. {did_you_mean(normal, names)}")


def _check_positive(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise EngineError(f"{name}={value!r}: a whole number from 1 on is wanted.")


def _longest(sequence_length: int | Sequence[int] | None) -> int | None:
    """The one length that matters: nothing is padded to it, so the shorter ones of a list are for nothing."""
    if sequence_length is None or isinstance(sequence_length, int):
        lengths = [] if sequence_length is None else [sequence_length]
    else:
        lengths = list(sequence_length)
    for length in lengths:
        _check_positive("sequence_length", length)
    return max(lengths, default=None)
