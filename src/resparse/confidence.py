"""How sure a classifier says it is, and has to be: what its config.json keeps beside its labels, and what follows.

Scores are those of the logits divided by a temperature (Guo et al. 2017, On Calibration of Modern Neural Networks,
arXiv:1706.04599). A text whose best label has a lower score than `min_score` gets none, or the out-of-scope label.
Training's metrics and predictions, pipelines, files and the server all go by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from resparse.arrays import Array

TEMPERATURE: Final = "calibration_temperature"
MIN_SCORE: Final = "min_score"
OUT_OF_SCOPE: Final = "out_of_scope_label"
KEYS: Final = (TEMPERATURE, MIN_SCORE, OUT_OF_SCOPE)
"""The entries of a model's config.json; a model without them answers as its logits say."""

REFUSED: Final = -1
"""In the place of a label's index: none is sure enough."""


@dataclass(frozen=True)
class Confidence:
    """See the top of this file.

    Attributes:
        temperature: that logits are divided by; 1 leaves them.
        min_score: the lowest score at which the best of labels that exclude each other counts; None: always.
        out_of_scope_label: the name that other texts get: one of the labels, or another; None: no label.
    """

    temperature: float = 1.0
    min_score: float | None = None
    out_of_scope_label: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Confidence:
        """What a model's configuration says.

        Raises:
            ValueError: a value that makes no sense, with its entry.
        """
        temperature, least, name = (config.get(key) for key in KEYS)
        if temperature is not None and not (_is_number(temperature) and 0 < temperature < math.inf):
            raise ValueError(f"{TEMPERATURE} is {temperature!r}; wanted is a number above 0")
        if least is not None and not is_min_score(least):
            raise ValueError(f"{MIN_SCORE} is {least!r}; wanted is a number from 0 to below 1")
        if name is not None and not (isinstance(name, str) and name.strip()):
            raise ValueError(f"{OUT_OF_SCOPE} is {name!r}; wanted is a name")
        return cls(
            1.0 if temperature is None else float(temperature),
            None if least is None else float(least),
            name,
        )

    def entries(self) -> dict[str, Any]:
        """What a configuration says of it; {} where it changes nothing."""
        values = (
            self.temperature if self.temperature != 1 else None,
            self.min_score,
            self.out_of_scope_label,
        )
        return {key: value for key, value in zip(KEYS, values, strict=True) if value is not None}

    def scaled(self, logits: Array) -> Array:
        """Logits at this temperature; the very same ones at 1."""
        return logits if self.temperature == 1 else np.asarray(logits) / self.temperature

    def refuses(self, best: Array) -> Array:
        """Which rows get no label, by the score of their best one [rows]."""
        if self.min_score is None:
            return np.zeros(len(best), bool)
        refused: Array = np.asarray(best) < self.min_score
        return refused


AS_IT_IS: Final = Confidence()
"""Of a model that says nothing of it: logits stay, and every text gets a label."""


def is_min_score(value: object) -> bool:
    """Whether a value is a lowest score, from 0 (all count) to below 1."""
    return _is_number(value) and 0 <= value < 1  # type: ignore[operator]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
