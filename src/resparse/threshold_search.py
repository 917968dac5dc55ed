"""The thresholds of several labels that give the best F1 on rows with known labels, one for each label."""

from __future__ import annotations

from typing import Final

import numpy as np

from resparse.arrays import Array

VALIDATION: Final = "validation"
"""What `--multi_label_threshold` is given for it."""

_END: Final = 1e-6


def best_thresholds(scores: Array, truth: Array, default: float) -> tuple[float, ...]:
    """The threshold of each label above which its F1 is the greatest.

    Candidates lie in the middle between neighbouring scores, so that every distinct decision is tried; of equal ones
    that with the widest gap wins, which is the least sensitive to rounding.

    Args:
        scores: [rows, labels], from 0 to 1.
        truth: [rows, labels] of 0 and 1.
        default: of labels that no row has, about which nothing can be learned.
    """
    return tuple(
        _best(np.asarray(scores, np.float64)[:, label], np.asarray(truth)[:, label] > 0.5, default)
        for label in range(np.shape(scores)[1])
    )


def _best(scores: Array, truth: Array, default: float) -> float:
    if not truth.any():
        return default
    order = np.argsort(-scores, kind="stable")
    ranked, found = scores[order], np.cumsum(truth[order])
    taken = np.arange(1, len(ranked) + 1)
    # With a threshold behind the first `taken` scores: 2 TP / (taken + all that are true).
    f1 = 2 * found / (taken + truth.sum())
    following = np.append(ranked[1:], 0.0)
    gaps = ranked - following
    f1[gaps <= 0] = -1  # equal scores are not to be told apart
    ties = np.flatnonzero(f1 >= f1.max() - 1e-12)
    cut = ties[gaps[ties].argmax()]
    return float(np.clip((ranked[cut] + following[cut]) / 2, _END, 1 - _END))
