"""How rows are grouped, and how logits become scores: properties, and PyTorch and SciPy as references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deepsparse.batching import RUN_COST, plan
from deepsparse.tasks.label_set import LabelSet, sigmoid, softmax

LENGTHS = st.lists(st.integers(0, 600), max_size=80)
LOGITS = arrays.arrays(np.float32, (3, 4), elements=st.floats(-1e4, 1e4, width=32))


@settings(deadline=None)
@given(LENGTHS, st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 1000))
def test_every_row_once_within_the_budget(lengths: list[int], most: int | None, budget: int):
    batches = plan(lengths, most, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert most is None or len(batch) <= most


@settings(deadline=None)
@given(LENGTHS)
def test_neighbours_in_length_share_a_batch(lengths: list[int]):
    flat = [lengths[row] for batch in plan(lengths) for row in batch]
    assert flat == sorted(lengths, reverse=True)


def cost(lengths: list[int], batches: list[list[int]]) -> int:
    return sum(RUN_COST + len(batch) * max(lengths[row] for row in batch) for batch in batches)


def fits(lengths: list[int], batches: list[list[int]], budget: int) -> bool:
    return all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget for batch in batches)


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(20, 200))
def test_no_grouping_of_neighbours_is_cheaper(lengths: list[int], budget: int):
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    all_groups = (groups(order, cuts) for cuts in itertools.product([False, True], repeat=len(order) - 1))
    cheapest = min(cost(lengths, batches) for batches in all_groups if fits(lengths, batches, budget))
    assert cost(lengths, plan(lengths, None, budget)) == cheapest


def groups(order: list[int], cuts: tuple[bool, ...]) -> list[list[int]]:
    batches = [[order[0]]]
    for row, cut in zip(order[1:], cuts, strict=True):
        if cut:
            batches.append([row])
        else:
            batches[-1].append(row)
    return batches


@settings(deadline=None)
@given(LOGITS)
def test_softmax_and_sigmoid_never_overflow(logits: np.ndarray):
    special = pytest.importorskip("scipy.special")
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(softmax(logits), special.softmax(logits, axis=1), atol=1e-6)
        np.testing.assert_allclose(sigmoid(logits), special.expit(logits), atol=1e-6)


@settings(deadline=None)
@given(LOGITS, st.integers(1, 4))
def test_the_best_come_first(logits: np.ndarray, top_k: int):
    names = ("a", "b", "c", "d")
    for row, found in zip(
        logits, LabelSet(names, "multi_label_classification").best(logits, top_k), strict=True
    ):
        assert found.scores == sorted(sigmoid(row).tolist(), reverse=True)[:top_k]
        assert len(set(found.labels)) == top_k
        assert [sigmoid(row)[names.index(name)] for name in found.labels] == found.scores


def test_a_regression_gives_its_value():
    assert LabelSet(("score",), "regression").best(np.array([[3.7]]), 1)[0].score == pytest.approx(3.7)
