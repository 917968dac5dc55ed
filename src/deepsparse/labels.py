"""From logits to named, scored labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from deepsparse.errors import ModelError
from resparse.arrays import Array

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one row was found to be.

    Attributes:
        labels: the best names, best first.
        scores: one for each, 0 to 1 (a regression's is the value itself).
    """

    labels: list[str]
    scores: list[float]

    @property
    def label(self) -> str:
        """The best."""
        return self.labels[0]

    @property
    def score(self) -> float:
        """Its score."""
        return self.scores[0]


@dataclass(frozen=True)
class LabelSet:
    """The names of a model's outputs, and how logits become scores.

    Attributes:
        names: in the order of the logits.
        problem: single labels exclude each other (softmax), several do not (a sigmoid each); a regression's
            value is given as it is.
    """

    names: tuple[str, ...]
    problem: ProblemType

    def check(self, logits: Array, where: str) -> None:
        """Refuse logits that these labels cannot name.

        Raises:
            ModelError: another number of columns than labels.
        """
        if logits.ndim != 2 or logits.shape[1] != len(self.names):
            found = f"{logits.shape[1]} logits" if logits.ndim == 2 else f"an array of shape {logits.shape}"
            raise ModelError(
                f"{where} names {len(self.names)} labels ({', '.join(self.names[:5])}"
                f"{', ...' if len(self.names) > 5 else ''}), but the model gives {found} a text. They are not of "
                "one model: export again, or mend id2label."
            )

    def scores(self, logits: Array) -> Array:
        """Scores of (rows, labels) logits.

        Raises:
            ModelError: logits that are no numbers, with the first such row.
        """
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


def label_set(config: Mapping[str, Any], where: str) -> LabelSet:
    """The labels that a `config.json` names.

    Args:
        where: the file, for errors.

    Raises:
        ModelError: it names none, or leaves some out.
    """
    names = _names(config, where)
    problem = config.get("problem_type")
    for known in get_args(ProblemType):
        if problem == known:
            return LabelSet(names, known)
    # A single logit without a word on what it means is taken for the probability of its label.
    return LabelSet(names, "multi_label_classification" if len(names) == 1 else "single_label_classification")


def softmax(logits: Array) -> Array:
    """Softmax along the last axis; the greatest is taken off first, so nothing overflows."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Array = raised / raised.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: Array) -> Array:
    """The logistic function, without overflow at either end."""
    small = np.exp(-np.abs(logits))
    scores: Array = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return scores


def _names(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    given = config.get("id2label")
    if given is None:
        # Transformers leaves the names out where they are its own: LABEL_0, LABEL_1, ...
        count = config.get("num_labels", config.get("_num_labels", 2))
        return tuple(f"LABEL_{index}" for index in range(int(count)))
    entries = list(enumerate(given)) if isinstance(given, Sequence) else list(dict(given).items())
    try:
        by_id = {int(key): str(name) for key, name in entries}
    except ValueError as error:
        raise ModelError(f"{where}: an id in id2label is no number: {error}.") from error
    if sorted(by_id) != list(range(len(entries))) or not entries:
        raise ModelError(
            f"{where}: id2label has the ids {sorted(by_id)}; wanted are 0, 1, 2, ... without a gap."
        )
    return tuple(by_id[index] for index in range(len(by_id)))
