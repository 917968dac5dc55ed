"""Temperature scaling: the one number by which logits are divided so that their probabilities come true.

Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, section 4.2: the temperature T with the
least negative log-likelihood of rows that were not trained on. In b = 1/T that is convex, as a log-sum-exp of what is
linear in b is; so its derivative has one zero, found by Newton's method within a bracket.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from resparse.arrays import Array

LEAST: Final = 0.05
MOST: Final = 20.0
"""The range of temperatures."""

_STEPS: Final = 200
_PRECISION: Final = 1e-12


def fit_temperature(logits: Array, truth: Array) -> float | None:
    """The temperature of logits that is most likely, from LEAST to MOST.

    Args:
        logits: [rows, labels], finite.
        truth: [rows] class ids; or [rows, labels] of 0 and 1, where labels do not exclude each other: then of all
            decisions together.

    Returns:
        None where there is none within the range: every row is right, so that none is small enough; or the logits say
        next to nothing of the truth, so that none is large enough.
    """
    low, high = 1 / MOST, 1 / LEAST
    if not len(logits) or _slopes(logits, truth, low)[0] >= 0 or _slopes(logits, truth, high)[0] <= 0:
        return None
    at = 1.0
    for _ in range(_STEPS):
        slope, curvature = _slopes(logits, truth, at)
        low, high = (low, at) if slope > 0 else (at, high)
        step = at - slope / curvature if curvature > 0 else high
        following = step if low < step < high else (low + high) / 2
        if abs(following - at) <= _PRECISION * at:
            break
        at = following
    return 1 / at


def negative_log_likelihood(logits: Array, truth: Array, temperature: float = 1.0) -> float:
    """The mean over decisions: of rows, or of rows and labels; logits and truth as `fit_temperature` takes them."""
    scaled = np.asarray(logits, np.float64) / temperature
    truth = np.asarray(truth)
    if truth.ndim == 1:
        right = np.take_along_axis(scaled, truth.astype(np.int64)[:, None], axis=1)[:, 0]
        return float((_log_sum(scaled) - right).mean())
    return float((np.logaddexp(0.0, scaled) - truth * scaled).mean())


def _slopes(logits: Array, truth: Array, inverse: float) -> tuple[float, float]:
    """First and second derivative of the mean negative log-likelihood by the inverse temperature."""
    values, truth = np.asarray(logits, np.float64), np.asarray(truth)
    scaled = inverse * values
    if truth.ndim == 1:
        shares = np.exp(scaled - _log_sum(scaled)[:, None])
        mean = (shares * values).sum(axis=1)
        right = np.take_along_axis(values, truth.astype(np.int64)[:, None], axis=1)[:, 0]
        spread = (shares * (values - mean[:, None]) ** 2).sum(axis=1)
        return float((mean - right).mean()), float(spread.mean())
    shares = 0.5 * (1.0 + np.tanh(0.5 * scaled))
    return float((values * (shares - truth)).mean()), float((values**2 * shares * (1 - shares)).mean())


def _log_sum(values: Array) -> Array:
    """log(sum(exp)) of each row, without overflow."""
    largest = values.max(axis=1)
    total: Array = largest + np.log(np.exp(values - largest[:, None]).sum(axis=1))
    return total
