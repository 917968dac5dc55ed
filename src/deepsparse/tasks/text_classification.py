"""Text classification: texts or pairs of texts in, labels with scores out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError, InputError
from deepsparse.pipeline import Pipeline
from deepsparse.tasks.base import Outputs, TaskOutput, check_positive
from deepsparse.tasks.label_set import LabelSet, Prediction, ProblemType, label_set
from deepsparse.tasks.long_texts import LongTextTask
from deepsparse.tasks.text_inputs import SEQUENCES, TextRow, TextTask
from resparse.arrays import Array
from resparse.confidence import Confidence, is_min_score
from resparse.long_texts import KEY as LONG_TEXTS
from resparse.thresholds import Threshold, read_threshold, stated

_PROBABILITY = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}


@dataclass(frozen=True)
class TextClassificationOutput(TaskOutput):
    """The labels of all rows, in the order of the input.

    Attributes:
        labels: a name for each row; with `top_k` above 1, or of a model of several labels, a list of names, best
            first.
        scores: likewise.
    """

    labels: list[str | None] | list[list[str | None]]
    scores: list[float | None] | list[list[float]]

    def tensors(self) -> dict[str, Sequence[Any]]:
        """`label` and `score`; of a row without a label, an empty text and 0."""
        return {
            "label": ["" if label is None else label for label in self.labels],
            "score": [0.0 if score is None else score for score in self.scores],
        }


class TextClassificationPipeline(Pipeline[Prediction, TextClassificationOutput]):
    """A text classifier; its arguments are those of `Pipeline`, and of `TextClassification`."""

    task = "text_classification"
    handler: TextClassification

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the logits."""
        return self.handler.label_set.names

    @property
    def problem_type(self) -> ProblemType:
        """What the model decides, as `config.json` calls it."""
        return self.handler.label_set.problem

    @property
    def top_k(self) -> int | None:
        """Labels given for each text; None where those above the threshold are."""
        return self.handler.top_k

    @property
    def threshold(self) -> float | dict[str, float] | None:
        """Of several labels, those with a higher score count; by label where each has its own, None where a text always
        has one label."""
        labels = self.handler.label_set
        return None if labels.threshold is None else stated(labels.threshold, labels.names)

    @property
    def min_score(self) -> float | None:
        """The lowest score at which a label counts, where labels exclude each other; None where all do."""
        return self.handler.label_set.confidence.min_score

    def logits(self, sequences: Any, spread: bool = True) -> Array:
        """The model's logits, (rows, labels), in their order; `sequences` as for a call, `spread` as for `run`."""
        rows = self.handler.parse_rows(sequences)
        if not rows:
            return np.empty((0, len(self.labels)), np.float32)
        logits: Array = self.run(rows, spread).arrays["logits"]
        return logits

    def describe(self) -> dict[str, Any]:
        several = {} if self.threshold is None else {"threshold": self.threshold}
        sure = self.handler.label_set.confidence.entries()
        long = {LONG_TEXTS: kept} if (kept := self.handler.long_texts.stated()) else {}
        settings = {"top_k": self.top_k, **several, **sure, **long}
        return {"labels": list(self.labels), **super().describe(), **settings}


class TextClassification(LongTextTask[Prediction, TextClassificationOutput]):
    """The labels of a text, or of a pair of texts.

    Args:
        top_k: labels given for each text, best first; by default one, and of a model of several labels all those
            above the threshold.
        threshold: in place of the deployment's (`multi_label_threshold` in its config.json): a probability, or an
            object of labels and probabilities; other labels keep theirs.
        min_score: in place of the deployment's: of labels that exclude each other, those with a lower score are not
            given, and a text that has no other is refused; 0 refuses none.
        out_of_scope_label: in place of the deployment's: the label of a text that is refused; else it has none.
        return_all_scores: give all labels, whatever their score.
        long_texts, window_stride, window_pooling, max_windows: see `LongTextTask`.

    Raises:
        EngineError: a threshold that is no probability, of a label that is not there, or of a model whose labels
            exclude each other; a lowest score of any other model.
    """

    name = "text_classification"
    aliases = ("glue", "sentiment_analysis")
    noun = "text classifier"
    label_set: LabelSet
    pipeline = TextClassificationPipeline
    request: ClassVar[Mapping[str, Any]] = {
        **TextTask.request,
        "properties": {
            "sequences": SEQUENCES,
            "top_k": {
                "type": "integer",
                "minimum": 1,
                "description": "Labels for each text, best first; of several, those that count by default.",
            },
            "threshold": {
                "description": "Of several labels, those with a higher score count: for all labels, or by label.",
                "anyOf": [
                    _PROBABILITY,
                    {"type": "object", "additionalProperties": _PROBABILITY, "minProperties": 1},
                ],
            },
            "min_score": {
                "type": "number",
                "minimum": 0,
                "exclusiveMaximum": 1,
                "description": "Of labels that exclude each other, those with a lower score are not given; 0: all are.",
            },
        },
        "example": {"sequences": ["What a day!", "Not again."]},
    }

    def __init__(
        self,
        deployment: Deployment,
        *,
        top_k: int | None = None,
        threshold: float | Mapping[str, float] | None = None,
        min_score: float | None = None,
        out_of_scope_label: str | None = None,
        return_all_scores: bool = False,
        long_texts: str | None = None,
        window_stride: int | None = None,
        window_pooling: str | None = None,
        max_windows: int | None = None,
    ) -> None:
        super().__init__(
            deployment,
            long_texts=long_texts,
            window_stride=window_stride,
            window_pooling=window_pooling,
            max_windows=max_windows,
        )
        check_positive("top_k", top_k)
        self.label_set = label_set(deployment)
        try:
            if threshold is not None:
                self.label_set = replace(self.label_set, threshold=self._threshold(threshold))
            if min_score is not None or out_of_scope_label is not None or return_all_scores:
                self.label_set = replace(
                    self.label_set,
                    confidence=self._confidence(min_score, out_of_scope_label, return_all_scores),
                )
        except InputError as error:
            raise EngineError(f"{self.deployment.folder}: {error}") from error
        count = len(self.label_set.names)
        self.top_k = count if return_all_scores else min(top_k, count) if top_k is not None else None
        if self.top_k is None and self.label_set.threshold is None:
            self.top_k = 1

    def _threshold(self, value: object) -> Threshold:
        """A threshold of a caller or a request, by label where it is; an InputError where it makes no sense."""
        labels = self.label_set
        if labels.threshold is None:
            raise InputError(
                f"threshold is {json.dumps(value)}, but the model gives every text one label; leave it out."
            )
        try:
            return read_threshold(value, labels.names, labels.threshold)
        except ValueError as error:
            raise InputError(f"threshold is {error}.".replace("..", ".")) from None

    def _confidence(self, least: object, name: object, every: bool) -> Confidence:
        """The model's own confidence with a caller's lowest score and name; an InputError where they make no sense."""
        own = self.label_set.confidence
        if least is not None:
            own = replace(own, min_score=self._min_score(least))
        elif every:
            own = replace(own, min_score=None)
        if name is not None and not (isinstance(name, str) and name.strip()):
            raise InputError(f"out_of_scope_label is {name!r}; wanted is a name.")
        return replace(own, out_of_scope_label=name) if isinstance(name, str) else own

    def _min_score(self, value: object) -> float:
        """A lowest score of a caller or a request; an InputError where it makes no sense."""
        if not is_min_score(value):
            raise InputError(f"min_score is {json.dumps(value)}; wanted is a number from 0 to below 1.")
        if self.label_set.problem != "single_label_classification":
            raise InputError(
                "min_score is for labels that exclude each other; of several, threshold decides."
            )
        return float(value)  # type: ignore[arg-type]

    @classmethod
    def options(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`top_k`, `threshold` and `min_score`; None where the pipeline's own is meant."""
        top_k = fields.get("top_k")
        if type(top_k) is float and top_k.is_integer():
            top_k = int(top_k)  # JSON's 2.0 is 2
        if top_k is not None and (type(top_k) is not int or top_k < 1):
            raise InputError(f"top_k is {json.dumps(top_k)}; wanted is a whole number from 1 on.")
        return {"top_k": top_k, **{name: fields.get(name) for name in ("threshold", "min_score")}}

    def check(self, outputs: Outputs) -> None:
        self.label_set.check(outputs.arrays["logits"], str(self.deployment.config_file))

    def decode(
        self,
        rows: Sequence[TextRow],
        outputs: Outputs,
        top_k: int | None = None,
        threshold: object = None,
        min_score: object = None,
        **options: Any,
    ) -> list[Prediction]:
        """The labels of each row, with `top_k`, `threshold` or `min_score` other than the pipeline's own where given.

        Raises:
            InputError: a threshold or a lowest score that makes no sense for this model.
        """
        least = None if min_score is None else self._min_score(min_score)
        above = None if threshold is None else self._threshold(threshold)
        wanted, logits = top_k or self.top_k, outputs.arrays["logits"]
        if wanted is None or (top_k is None and above is not None):
            return self.label_set.above(logits, above)
        return self.label_set.best(logits, wanted, least)

    def output(
        self,
        predictions: Sequence[Prediction],
        top_k: int | None = None,
        threshold: object = None,
        **options: Any,
    ) -> TextClassificationOutput:
        """Names and scores; lists of them where more than one label is asked for."""
        if (top_k or (self.top_k if threshold is None else None)) == 1:
            return TextClassificationOutput(
                [prediction.label for prediction in predictions],
                [prediction.score for prediction in predictions],
            )
        return TextClassificationOutput(
            [prediction.labels for prediction in predictions],
            [prediction.scores for prediction in predictions],
        )

    def columns(self) -> list[str]:
        """predicted_label and predicted_score, then predicted_label_2, ...; predicted_labels where several count."""
        if self.top_k is None:
            return ["predicted_labels", "predicted_scores"]
        ranks = ["", *(f"_{rank}" for rank in range(2, self.top_k + 1))]
        return [f"{name}{rank}" for rank in ranks for name in ("predicted_label", "predicted_score")]

    def values(self, prediction: Prediction) -> list[Any]:
        if self.top_k is None:
            scores = ",".join(f"{score:.6g}" for score in prediction.scores)
            return [",".join(map(str, prediction.labels)), scores]
        pairs = zip(prediction.labels, prediction.scores, strict=True)
        values = [value for label, score in pairs for value in (label, round(score, 6))]
        # Labels below the lowest score are left out.
        return values + [None] * (2 * self.top_k - len(values))
