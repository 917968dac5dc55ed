"""The labels of a text classifier: how its logits become scores, and scores the labels of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import ModelError
from resparse.arrays import Array
from resparse.confidence import AS_IT_IS, Confidence
from resparse.thresholds import Threshold, threshold_of

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of one row.

    Attributes:
        labels: the best names, best first; `label` is the best, None where none counts. Where the best is below the
            lowest score that counts, one entry: the out-of-scope label, or None.
        scores: one for each, 0 to 1 (a regression's is the value itself); of an out-of-scope label, of the best one.
    """

    labels: list[str | None]
    scores: list[float]

    @property
    def label(self) -> str | None:
        return self.labels[0] if self.labels else None

    @property
    def score(self) -> float | None:
        return self.scores[0] if self.scores else None


@dataclass(frozen=True)
class LabelSet:
    """The names of a model's logits, and how logits become scores.

    Attributes:
        names: in the order of the logits.
        problem: single labels exclude each other (softmax), several do not (a sigmoid each); a regression's
            value is given as it is.
        threshold: of several labels, those with a higher score count, for each label alike or for each its own; None
            where a row always has one.
        confidence: the temperature that logits are divided by, and the lowest score of labels that exclude each other.
    """

    names: tuple[str, ...]
    problem: ProblemType
    threshold: Threshold | None = None
    confidence: Confidence = AS_IT_IS

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
        logits = self.confidence.scaled(logits)
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
            labels: list[str | None] = [self.names[index] for index in kept]
            found.append(Prediction(labels, [values[index] for index in kept]))
        return found

    def best(self, logits: Array, top_k: int, min_score: float | None = None) -> list[Prediction]:
        """The `top_k` best labels of each row of logits; of equal ones, the first.

        Those below the lowest score are left out, and where all are, the row is refused.

        Args:
            logits: (rows, labels).
            min_score: in the place of its own.
        """
        scores = self.scores(logits)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        kept = np.take_along_axis(scores, order, axis=1)
        names, least = self.names, self.confidence.min_score if min_score is None else min_score
        found = [
            Prediction([names[index] for index in indices], values)
            for indices, values in zip(order.tolist(), kept.tolist(), strict=True)
        ]
        return found if not least else [self._sure(prediction, least) for prediction in found]

    def _sure(self, prediction: Prediction, least: float) -> Prediction:
        """Without the labels below the lowest score; refused, where all are."""
        count = sum(score >= least for score in prediction.scores)
        if count:
            return Prediction(prediction.labels[:count], prediction.scores[:count])
        return Prediction([self.confidence.out_of_scope_label], prediction.scores[:1])


def label_set(deployment: Deployment) -> LabelSet:
    """The labels that a deployment's `config.json` names; a ModelError where it leaves some out."""
    names = deployment.label_names()
    problem = deployment.config.get("problem_type")
    try:
        own = Confidence.of(deployment.config)
        if problem == "multi_label_classification":
            return LabelSet(names, "multi_label_classification", threshold_of(deployment.config, names), own)
    except ValueError as error:
        raise ModelError(f"{deployment.config_file}: {error}.") from error
    for known in get_args(ProblemType):
        if problem == known:
            return LabelSet(names, known, confidence=own)
    # A single logit without a problem type is taken for the probability of its label.
    single: ProblemType = "multi_label_classification" if len(names) == 1 else "single_label_classification"
    return LabelSet(names, single, confidence=own)


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
