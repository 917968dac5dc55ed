"""Which labels of a row count where several may: those whose probability is above the model's threshold.

Training's metrics and predictions, the check of an export, pipelines, files and the server all decide by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

KEY: Final = "multi_label_threshold"
"""The entry of a model's config.json."""

DEFAULT: Final = 0.3
"""SparseML's value."""


def is_threshold(value: object) -> bool:
    """Whether a value is a probability between 0 and 1, both excluded."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def threshold_of(config: Mapping[str, Any]) -> float:
    """The threshold of a model's configuration.

    Raises:
        ValueError: it is no probability.
    """
    value = config.get(KEY)
    if value is None:
        return DEFAULT
    if not is_threshold(value):
        raise ValueError(f"{KEY} is {value!r}; wanted is a probability between 0 and 1")
    return float(value)


def as_logit(threshold: float) -> float:
    """The logit whose sigmoid is the threshold."""
    return math.log(threshold / (1 - threshold))
