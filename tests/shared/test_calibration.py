"""Temperature scaling against brute force, and what a configuration may say of a classifier's confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from resparse.calibration import LEAST, MOST, fit_temperature, negative_log_likelihood
from resparse.confidence import AS_IT_IS, Confidence

SEEDS = st.integers(0, 10**6)
SCALES = st.floats(0.3, 6)


def rows(seed: int, scale: float, several: bool, count: int = 200, labels: int = 4) -> tuple[Any, Any]:
    """Logits, and labels drawn from their probabilities; then the logits are as far off as `scale`."""
    source = np.random.default_rng(seed)
    logits = source.normal(0, 2, (count, labels))
    if several:
        truth = source.random((count, labels)) < special.expit(logits)
        return scale * logits, truth.astype(np.float64)
    shares = special.softmax(logits, axis=1)
    return scale * logits, np.array([source.choice(labels, p=row) for row in shares])


def likelihood(logits: Any, truth: Any, temperature: float) -> float:
    """By the definition, in the plainest way."""
    scaled = logits / temperature
    if truth.ndim == 1:
        return float(-special.log_softmax(scaled, axis=1)[np.arange(len(truth)), truth].mean())
    chances = np.where(truth > 0.5, special.log_expit(scaled), special.log_expit(-scaled))
    return float(-chances.mean())


@given(SEEDS, SCALES, st.booleans())
@settings(max_examples=40, deadline=None)
def test_it_is_the_best_temperature_there_is(seed: int, scale: float, several: bool) -> None:
    logits, truth = rows(seed, scale, several)
    found = fit_temperature(logits, truth)
    assert found is not None
    best = optimize.minimize_scalar(
        lambda log: likelihood(logits, truth, float(np.exp(log))),
        bounds=(np.log(LEAST), np.log(MOST)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found == pytest.approx(scale, rel=0.5)
    assert negative_log_likelihood(logits, truth, found) == pytest.approx(best.fun, abs=1e-9)


@given(SEEDS, st.floats(0.1, 10), st.booleans())
@settings(max_examples=20, deadline=None)
def test_likelihood_is_the_definition(seed: int, temperature: float, several: bool) -> None:
    logits, truth = rows(seed, 1.0, several, 20)
    expected = likelihood(logits, truth, temperature)
    assert negative_log_likelihood(logits, truth, temperature) == pytest.approx(expected)


def test_great_logits_do_not_overflow() -> None:
    logits, truth = rows(0, 400.0, several=False)
    assert fit_temperature(logits, truth) is None  # beyond MOST
    assert np.isfinite(negative_log_likelihood(1e4 * logits, truth))


@pytest.mark.parametrize("several", [False, True])
def test_there_is_none_where_every_row_is_right_or_nothing_is_said(several: bool) -> None:
    source = np.random.default_rng(0)
    truth = source.integers(0, 3, 80)
    flags = np.eye(3)[truth]
    logits = 4 * flags - 2
    assert fit_temperature(logits, flags if several else truth) is None
    assert fit_temperature(-logits, flags if several else truth) is None
    assert fit_temperature(np.zeros((0, 3)), np.zeros((0, 3)) if several else np.zeros(0, int)) is None


def test_entries_of_a_configuration_and_back() -> None:
    whole = Confidence(1.5, 0.4, "other")
    assert Confidence.of({"num_labels": 3, **whole.entries()}) == whole
    assert AS_IT_IS.entries() == {} and Confidence.of({}) == AS_IT_IS
    assert Confidence.of(dict.fromkeys(whole.entries())) == AS_IT_IS  # null says nothing
    logits = np.ones((2, 3), np.float32)
    assert AS_IT_IS.scaled(logits) is logits


@pytest.mark.parametrize(
    "entry",
    [
        {"calibration_temperature": 0},
        {"calibration_temperature": float("inf")},
        {"calibration_temperature": float("nan")},
        {"calibration_temperature": "1.5"},
        {"min_score": 1},
        {"min_score": -0.1},
        {"min_score": True},
        {"out_of_scope_label": ""},
        {"out_of_scope_label": 3},
    ],
)
def test_entries_that_make_no_sense(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(entry))):
        Confidence.of(entry)
