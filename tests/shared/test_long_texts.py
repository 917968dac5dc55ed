"""Windows of long texts against lists cut by hand, and their pooling against a mean and a maximum one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resparse.long_texts import KEY, LongTexts, cut, long_texts_of, pool, starts_of
from support.deployment import WORDS, tokenizer

TOKENIZER = tokenizer()
PLAIN = [word for word in WORDS if word.isalpha()]
texts = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=60)


def content(window: Any) -> list[str]:
    return [token for token in window.tokens if not token.startswith("[")]


@given(texts, st.integers(4, 20), st.integers(0, 30), st.integers(1, 70), st.booleans())
def test_windows_cover_a_text_and_overlap_by_the_stride(
    words: list[str], limit: int, stride: int, most: int, left: bool
) -> None:
    settings = LongTexts("windows", stride, most=most)
    (found,) = cut(TOKENIZER, [" ".join(words)], limit, settings, left)
    assert all(len(window.ids) <= limit for window in found.windows) and len(found.windows) <= most
    assert found.longer == (len(words) + 2 > limit)
    room = limit - 2
    shared = min(stride, room * 3 // 4)
    pieces = [TOKENIZER.encode(" ".join(words)).ids[1:-1]] if not found.longer else []
    if not pieces:
        ids = TOKENIZER.encode(" ".join(words)).ids[1:-1]
        ids = ids[::-1] if left else ids
        for start in range(0, len(ids), room - shared):
            pieces.append(ids[start : start + room])
            if start + room >= len(ids):
                break
        pieces = [piece[::-1] if left else piece for piece in pieces]
    assert found.unread == (len(pieces) > most)
    assert [window.ids[1:-1] for window in found.windows] == pieces[:most]


@given(texts, texts, st.integers(6, 24), st.integers(0, 4))
def test_of_a_pair_the_longer_text_is_cut(one: list[str], other: list[str], limit: int, stride: int) -> None:
    pair = (" ".join(one), " ".join(other))
    (found,) = cut(TOKENIZER, [pair], limit, LongTexts("windows", stride, most=1000))
    room = limit - 3
    longer, shorter = (0, 1) if len(one) >= len(other) else (1, 0)
    parts = [TOKENIZER.encode(text, add_special_tokens=False).ids for text in pair]
    assert all(len(window.ids) <= limit for window in found.windows)
    if len(one) + len(other) <= room:
        assert not found.longer and len(found.windows) == 1
        return
    kept = min(len(parts[shorter]), room // 2)
    assert found.unread == (kept < len(parts[shorter]))
    seen: list[int] = []
    for window in found.windows:
        # Segments 0 and 1 are the two texts, special tokens aside.
        of = [
            [
                i
                for i, kind, special in zip(
                    window.ids, window.type_ids, window.special_tokens_mask, strict=True
                )
                if kind == text and not special
            ]
            for text in (0, 1)
        ]
        assert of[shorter] == parts[shorter][:kept]
        shared = min(stride, (room - kept) * 3 // 4) if seen else 0
        assert seen[len(seen) - shared :] == of[longer][:shared]
        seen += of[longer][shared:]
    assert seen == parts[longer]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 99))
def test_pooling_is_a_mean_or_a_maximum_of_each_rows_windows(
    counts: list[int], labels: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(sum(counts), labels)).astype(np.float32)
    starts = starts_of(counts)
    parts = [values[first:last] for first, last in itertools.pairwise(starts)]
    np.testing.assert_allclose(pool(values, starts, "mean"), [part.mean(axis=0) for part in parts], atol=1e-6)
    np.testing.assert_array_equal(pool(values, starts, "max"), [part.max(axis=0) for part in parts])
    assert pool(values, starts, "mean").dtype == np.float32


def test_settings_survive_a_configuration() -> None:
    settings = LongTexts("windows", 7, "max", 9, 128)
    assert long_texts_of({KEY: settings.stated()}) == settings
    assert long_texts_of({}) == long_texts_of({KEY: None}) == LongTexts() and LongTexts().stated() == {}


@pytest.mark.parametrize(
    "stated",
    [
        3,
        {"read": "all"},
        {"stride": -1},
        {"stride": 1.5},
        {"most": 0},
        {"length": "x"},
        {"pooling": None},
        {"step": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(stated: Any) -> None:
    with pytest.raises(ValueError, match=KEY):
        long_texts_of({KEY: stated})
