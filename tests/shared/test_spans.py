"""Choosing a span: against every span there is, and by what must hold of windows, "no answer" and settings."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resparse.spans import Reading, Window, best_spans, decide, reading_of, room


def window(seed: int, tokens: int, first: int = 3, begin: int = 0) -> Window:
    """Random logits; passage tokens of one to three characters with a space between them, some without any."""
    source = np.random.default_rng(seed)
    widths = source.integers(0, 4, tokens)
    starts = begin + np.concatenate([[0], np.cumsum(widths + 1)[:-1]]) if tokens else np.zeros(0)
    offsets = np.stack([starts, starts + widths], axis=1).astype(np.int64)
    start, end = source.normal(size=(2, first + tokens + 1)).astype(np.float32)
    return Window(start, end, first, offsets)


def every_span(one: Window, longest: int) -> dict[tuple[int, int], float]:
    """All spans of a window with their scores, one after the other."""
    found: dict[tuple[int, int], float] = {}
    for first, last in product(range(len(one.offsets)), repeat=2):
        place = int(one.offsets[first, 0]), int(one.offsets[last, 1])
        if first <= last < first + longest and place[0] < place[1]:
            score = float(one.start[one.first + first]) + float(one.end[one.first + last])
            found[place] = max(score, found.get(place, -np.inf))
    return found


@given(st.integers(0, 10_000), st.integers(0, 9), st.integers(1, 12), st.integers(1, 30))
def test_the_best_spans_are_the_best_of_all(seed: int, tokens: int, longest: int, count: int) -> None:
    one = window(seed, tokens)
    wanted = sorted(every_span(one, longest).values(), reverse=True)
    found = sorted(
        {(span.start, span.end): span.score for span in best_spans(one, longest, count * 9)}.values()
    )
    assert np.allclose(found[::-1][:count], wanted[:count], atol=1e-6)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 8), min_size=1, max_size=3), st.booleans())
def test_a_decision_is_over_all_windows(seed: int, sizes: list[int], version_2: bool) -> None:
    windows = [window(seed + number, size, begin=3 * number) for number, size in enumerate(sizes)]
    reading = Reading(max_answer_length=4, n_best_size=5, version_2_with_negative=version_2)
    decision = decide(windows, reading)
    spans: dict[tuple[int, int], float] = {}
    for one in windows:
        for place, score in every_span(one, 4).items():
            spans[place] = max(score, spans.get(place, -np.inf))
    null = min(float(one.start[0]) + float(one.end[0]) for one in windows)
    assert sum(one.probability for one in decision.candidates) == pytest.approx(1)
    scores = [one.score for one in decision.candidates]
    if not spans:
        assert decision.chosen.is_null and decision.best_span is None
        return
    best = max(spans.values())
    assert decision.best_span is not None and decision.best_span.score == pytest.approx(best, abs=1e-5)
    if not version_2:
        assert decision.null_odds is None and decision.chosen == decision.candidates[0]
        assert np.allclose(scores, sorted(spans.values(), reverse=True)[:5], atol=1e-5)
        return
    assert decision.null_odds == pytest.approx(null - best, abs=1e-5)
    assert decision.chosen.is_null == (decision.null_odds > 0)
    assert sum(one.is_null for one in decision.candidates) == 1
    assert scores == sorted(scores, reverse=True) and len(scores) <= 6


def test_the_threshold_decides_for_or_against_an_answer() -> None:
    one = window(7, 6)
    odds = decide([one], Reading(version_2_with_negative=True)).null_odds
    assert odds is not None
    for threshold, silent in ((odds - 0.01, True), (odds + 0.01, False)):
        reading = Reading(version_2_with_negative=True, null_score_diff_threshold=threshold)
        assert decide([one], reading).chosen.is_null == silent


@given(st.integers(5, 600), st.integers(1, 200), st.integers(0, 600))
def test_a_window_leaves_room_and_moves_on(length: int, question: int, stride: int) -> None:
    reading = Reading(max_question_length=question, doc_stride=stride)
    cut, overlap = room(reading, length, 3)
    passage = length - 3 - cut
    assert 1 <= cut <= question and passage >= 1 and 0 <= overlap < passage
    if length == 384 and question == 64 and stride <= 158:
        assert (cut, overlap) == (64, stride)  # as Transformers' run_qa


def test_settings_of_a_configuration() -> None:
    stated = Reading(doc_stride=7, version_2_with_negative=True)
    config = {"question_answering": {**stated.stated(), "later": 1}}
    assert reading_of(config) == stated
    assert reading_of(config, doc_stride=None, n_best_size=3) == Reading(
        doc_stride=7, version_2_with_negative=True, n_best_size=3
    )
    assert reading_of({}) == Reading()
    for wrong in (
        [1],
        {"doc_stride": -1},
        {"n_best_size": True},
        {"null_score_diff_threshold": float("nan")},
    ):
        with pytest.raises(ValueError, match="wanted is"):
            reading_of({"question_answering": wrong})
