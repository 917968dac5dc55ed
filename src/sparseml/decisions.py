"""From a model's logits to probabilities and to what is decided, in NumPy."""

from __future__ import annotations

import numpy as np

from resparse import thresholds
from sparseml.data.label_encoding import MULTI, REGRESSION, Kind


def probabilities(logits: np.ndarray, kind: Kind) -> np.ndarray:
    """Logits (rows, num_labels) to float64 probabilities: softmax, sigmoid for several labels; scores unchanged."""
    logits = np.asarray(logits, dtype=np.float64)
    if kind == REGRESSION:
        return logits
    if kind == MULTI:
        # tanh saturates where exp(-x) would overflow.
        return 0.5 * (1.0 + np.tanh(0.5 * logits))
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def decisions(
    logits: np.ndarray, kind: Kind, threshold: thresholds.Threshold = thresholds.DEFAULT
) -> np.ndarray:
    """Logits (rows, num_labels) to class ids (rows,), to 0 and 1 (rows, num_labels), or to scores (rows,)."""
    logits = np.asarray(logits)
    if kind == REGRESSION:
        return logits.reshape(len(logits))
    if kind == MULTI:
        return (probabilities(logits, kind) > np.asarray(threshold)).astype(np.int64)
    return logits.argmax(axis=-1)
