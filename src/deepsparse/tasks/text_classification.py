"""Text classification: texts or pairs of texts in, labels with scores out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError, InputError, ModelError
from deepsparse.pipeline import Pipeline
from deepsparse.tasks.base import Outputs, TaskOutput, check_positive
from deepsparse.tasks.text_inputs import SEQUENCES, TextRow, TextTask
from resparse.arrays import Array
from resparse.thresholds import Threshold, read_threshold, stated, threshold_of

_PROBABILITY = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of one row.

    Attributes:
        labels: the best names, best first; `label` is the best, None where none counts.
        scores: one for each, 0 to 1 (a regression's is the value itself).
    """

    labels: list[str]
    scores: list[float]

    @property
    def label(self) -> str | None:
        return self.labels[0] if self.labels else None

    @property
    def score(self) -> float | None:
        return self.scores[0] if self.scores else None


@dataclass(frozen=True)
class TextClassificationOutput(TaskOutput):
    """The labels of all rows, in the order of the input.

    Attributes:
        labels: a name for each row; with `top_k` above 1, or of a model of several labels, a list of names, best
            first.
        scores: likewise.
    """

    labels: list[str | None] | list[list[str]]
    scores: list[float | None] | list[list[float]]

    def tensors(self) -> dict[str, Sequence[Any]]:
        """`label` and `score`; of a row without a label, an empty text and 0."""
        return {
            "label": ["" if label is None else label for label in self.labels],
            "score": [0.0 if score is None else score for score in self.scores],
        }


@dataclass(frozen=True)
class LabelSet:
    """The names of a model's logits, and how logits become scores.

    Attributes:
        names: in the order of the logits.
        problem: single labels exclude each other (softmax), several do not (a sigmoid each); a regression's
            value is given as it is.
        threshold: of several labels, those with a higher score count, for each label alike or for each its own; None
            where a row always has one.
    """

    names: tuple[str, ...]
    problem: ProblemType
    threshold: Threshold | None = None

    def check(self, logits: Array, where: str) -> None:
        """Refuse logits of another number of columns than labels, with a ModelError."""
        if logits.ndim != 2 or logits.shape[1] != len(self.names):
            found = f"{logits.shape[1]} logits" if logits.ndim == 2 else f"an array of shape {logits.shape}"
            raise ModelError(
                f"{where} names {len(self.names)} labels ({', '.join(self.names[:5])}"
                f"{', ...' if len(self.names) > 5 else ''}), but the model gives {found} a text. They are not of "
                "one model: export again, or mend id2label."
            )

    def scores(self, logits: Array) -> Array:
        """Scores of (rows, labels) logits; a ModelError names the first row that is not finite."""
        finite = np.isfinite(logits).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise ModelError(
                f"The model gives no finite number for row {row} (logits {logits[row].tolist()}): its weights "
                "hold NaN, or overflow. Export it again from a sound checkpoint."
            )
        if self.problem == "regression":
            return logits
        return softmax(logits) if self.problem == "single_label_classification" else sigmoid(logits)

    def above(self, logits: Array, threshold: Threshold | None = None) -> list[Prediction]:
        """The labels of each row of logits whose scores are above the threshold, best first; there may be none.

        Args:
            logits: (rows, labels).
            threshold: in the place of its own.
        """
        scores = self.scores(logits)
        counts = scores > np.asarray(threshold if threshold is not None else self.threshold or 0.0)
        order = np.argsort(-scores, axis=1, kind="stable")
        found = []
        for indices, values, above in zip(order.tolist(), scores.tolist(), counts.tolist(), strict=True):
            kept = [index for index in indices if above[index]]
            found.append(Prediction([self.names[index] for index in kept], [values[index] for index in kept]))
        return found

    def best(self, logits: Array, top_k: int) -> list[Prediction]:
        """The `top_k` best labels of each row of logits; of equal ones, the first."""
        scores = self.scores(logits)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        kept = np.take_along_axis(scores, order, axis=1)
        names = self.names
        return [
            Prediction([names[index] for index in indices], values)
            for indices, values in zip(order.tolist(), kept.tolist(), strict=True)
        ]


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

    def logits(self, sequences: Any, spread: bool = True) -> Array:
        """The model's logits, (rows, labels), in their order; `sequences` as for a call, `spread` as for `run`."""
        rows = self.handler.parse_rows(sequences)
        if not rows:
            return np.empty((0, len(self.labels)), np.float32)
        logits: Array = self.run(rows, spread).arrays["logits"]
        return logits

    def describe(self) -> dict[str, Any]:
        several = {} if self.threshold is None else {"threshold": self.threshold}
        return {"labels": list(self.labels), **super().describe(), "top_k": self.top_k, **several}


class TextClassification(TextTask[Prediction, TextClassificationOutput]):
    """The labels of a text, or of a pair of texts.

    Args:
        top_k: labels given for each text, best first; by default one, and of a model of several labels all those
            above the threshold.
        threshold: in place of the deployment's (`multi_label_threshold` in its config.json): a probability, or an
            object of labels and probabilities; other labels keep theirs.
        return_all_scores: give all labels.

    Raises:
        EngineError: a threshold that is no probability, of a label that is not there, or of a model whose labels
            exclude each other.
    """

    name = "text_classification"
    aliases = ("glue", "sentiment_analysis")
    noun = "text classifier"
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
        },
        "example": {"sequences": ["What a day!", "Not again."]},
    }

    def __init__(
        self,
        deployment: Deployment,
        *,
        top_k: int | None = None,
        threshold: float | Mapping[str, float] | None = None,
        return_all_scores: bool = False,
    ) -> None:
        super().__init__(deployment)
        check_positive("top_k", top_k)
        self.label_set = label_set(deployment)
        if threshold is not None:
            try:
                own = self._threshold(threshold)
            except InputError as error:
                raise EngineError(f"{self.deployment.folder}: {error}") from error
            self.label_set = replace(self.label_set, threshold=own)
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

    @classmethod
    def options(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`top_k` and `threshold`; None where the pipeline's own is meant."""
        top_k = fields.get("top_k")
        if type(top_k) is float and top_k.is_integer():
            top_k = int(top_k)  # JSON's 2.0 is 2
        if top_k is not None and (type(top_k) is not int or top_k < 1):
            raise InputError(f"top_k is {json.dumps(top_k)}; wanted is a whole number from 1 on.")
        return {"top_k": top_k, "threshold": fields.get("threshold")}

    def check(self, outputs: Outputs) -> None:
        self.label_set.check(outputs.arrays["logits"], str(self.deployment.config_file))

    def label_scores(self, outputs: Outputs, raw: bool = False) -> tuple[tuple[str, ...], Array]:
        logits = outputs.arrays["logits"]
        return self.label_set.names, logits if raw else self.label_set.scores(logits)

    def decode(
        self,
        rows: Sequence[TextRow],
        outputs: Outputs,
        top_k: int | None = None,
        threshold: object = None,
        **options: Any,
    ) -> list[Prediction]:
        """The labels of each row, with `top_k` or `threshold` other than the pipeline's own where they are given.

        Raises:
            InputError: a threshold that makes no sense for this model.
        """
        above = None if threshold is None else self._threshold(threshold)
        wanted, logits = top_k or self.top_k, outputs.arrays["logits"]
        if wanted is None or (top_k is None and above is not None):
            return self.label_set.above(logits, above)
        return self.label_set.best(logits, wanted)

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
            return [",".join(prediction.labels), ",".join(f"{score:.6g}" for score in prediction.scores)]
        pairs = zip(prediction.labels, prediction.scores, strict=True)
        return [value for label, score in pairs for value in (label, round(score, 6))]


def label_set(deployment: Deployment) -> LabelSet:
    """The labels that a deployment's `config.json` names; a ModelError where it leaves some out."""
    names = deployment.label_names()
    problem = deployment.config.get("problem_type")
    if problem == "multi_label_classification":
        try:
            return LabelSet(names, "multi_label_classification", threshold_of(deployment.config, names))
        except ValueError as error:
            raise ModelError(f"{deployment.config_file}: {error}.") from error
    for known in get_args(ProblemType):
        if problem == known:
            return LabelSet(names, known)
    # A single logit without a problem type is taken for the probability of its label.
    return LabelSet(names, "multi_label_classification" if len(names) == 1 else "single_label_classification")


def softmax(logits: Array) -> Array:
    """Softmax along the last axis; the greatest is subtracted first, so nothing overflows."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Array = raised / raised.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: Array) -> Array:
    """The logistic function, without overflow at either end."""
    small = np.exp(-np.abs(logits))
    scores: Array = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return scores
