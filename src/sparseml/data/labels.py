"""What a model has to predict, decided from the training labels; and raw labels turned into numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Kind = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE: Kind = "single_label_classification"
MULTI: Kind = "multi_label_classification"
REGRESSION: Kind = "regression"


@dataclass(frozen=True)
class Labels:
    """What the classifier's outputs mean.

    Attributes:
        kind: as `problem_type` in a Transformers configuration.
        names: class names in the order of the ids; the score's name for regression.
    """

    kind: Kind
    names: tuple[str, ...]

    @property
    def num_labels(self) -> int:
        """Outputs of the model: one for regression."""
        return len(self.names)

    @cached_property
    def id2label(self) -> dict[int, str]:
        """Class id to class name."""
        return dict(enumerate(self.names))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """Class name to class id."""
        return {name: index for index, name in enumerate(self.names)}
