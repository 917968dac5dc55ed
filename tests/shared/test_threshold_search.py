"""Thresholds of the greatest F1, against every threshold that decides otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from resparse.threshold_search import best_thresholds
from resparse.thresholds import is_threshold


@given(
    arrays(np.float64, (12, 2), elements=st.floats(0, 1).map(lambda value: round(value, 1))),
    arrays(np.int64, (12, 2), elements=st.integers(0, 1)),
)
@settings(max_examples=150, deadline=None)
def test_no_threshold_is_better(scores: np.ndarray, truth: np.ndarray) -> None:
    """Scores repeat, are 0 and are 1: what a threshold between 0 and 1 can tell apart is all that counts."""
    found = best_thresholds(scores, truth, 0.3)
    assert all(map(is_threshold, found))
    for label, threshold in enumerate(found):
        if not truth[:, label].any():
            assert threshold == 0.3
            continue
        reached = f1_score(truth[:, label], scores[:, label] > threshold, zero_division=0)
        for other in (1e-6, 1 - 1e-6, *np.arange(0.05, 1, 0.1)):
            assert reached >= f1_score(truth[:, label], scores[:, label] > other, zero_division=0) - 1e-12


def test_of_equal_ones_that_with_the_widest_gap() -> None:
    scores, truth = np.array([[0.9], [0.8], [0.2], [0.1]]), np.array([[1], [1], [0], [0]])
    assert best_thresholds(scores, truth, 0.3) == (pytest.approx(0.5),)
