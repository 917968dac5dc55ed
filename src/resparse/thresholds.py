"""Which labels of a row count where several may: those whose probability is above the model's threshold.

One threshold serves all labels, or each label has its own: then the configuration holds an object of labels and
thresholds. Training's metrics and predictions, the check of an export, pipelines, files and the server all decide by
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from resparse.arrays import Array
from resparse.errors import did_you_mean

KEY: Final = "multi_label_threshold"
"""The entry of a model's config.json."""

DEFAULT: Final = 0.3
"""SparseML's value."""

Threshold = float | tuple[float, ...]
"""One for all labels, or one for each, in the order of the labels."""

_WANTED = "wanted is a probability between 0 and 1, or an object with one for each label"


def is_threshold(value: object) -> bool:
    """Whether a value is a probability between 0 and 1, both excluded."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def threshold_of(config: Mapping[str, Any], names: Sequence[str]) -> Threshold:
    """The threshold of a model's configuration, whose labels have these names.

    Raises:
        ValueError: it is no probability, or of a label that is not there.
    """
    value = config.get(KEY)
    try:
        return DEFAULT if value is None else read_threshold(value, names, DEFAULT)
    except ValueError as error:
        raise ValueError(f"{KEY} is {error}") from None


def read_threshold(value: object, names: Sequence[str], others: Threshold) -> Threshold:
    """A threshold as a configuration, a request or a caller states it.

    Args:
        value: a probability, or labels with probabilities.
        names: of all labels, in their order.
        others: of labels that are not named.

    Raises:
        ValueError: anything else; the message begins with the value.
    """
    if is_threshold(value):
        return float(value)  # type: ignore[arg-type]
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{value!r}; {_WANTED}")
    for name, one in value.items():
        if name not in names:
            raise ValueError(
                f"of a label {name!r} that there is not. {did_you_mean(str(name), names)}".rstrip()
            )
        if not is_threshold(one):
            raise ValueError(f"{one!r} for {name!r}; {_WANTED}")
    rest = others if isinstance(others, tuple) else (others,) * len(names)
    return tuple(float(value.get(name, other)) for name, other in zip(names, rest, strict=True))


def stated(threshold: Threshold, names: Sequence[str]) -> float | dict[str, float]:
    """A threshold as a configuration states it."""
    return dict(zip(names, threshold, strict=True)) if isinstance(threshold, tuple) else threshold


def as_logit(threshold: Threshold) -> float | Array:
    """The logit whose sigmoid is the threshold; an array of one for each label where each has its own."""
    values = np.asarray(threshold, np.float64)
    logits = np.log(values / (1 - values))
    return logits if isinstance(threshold, tuple) else float(logits)
