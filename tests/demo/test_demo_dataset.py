"""The shipped dataset is what its data card says it is."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter

import numpy as np
import pytest

from sparseml import demo

ROWS_PER_CLASS = {"train": 130, "validation": 24, "test": 40}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, str]]]:
    """Every split, read as any user would read it."""
    rows = {}
    for split, path in demo.files().items():
        with path.open(encoding="utf-8", newline="") as stream:
            rows[split] = list(csv.DictReader(stream, strict=True))
    return rows


def texts_of(rows: list[dict[str, str]]) -> list[str]:
    return [row["text"] for row in rows]


def word_incidence(texts: list[str]) -> np.ndarray:
    """(texts, vocabulary) matrix of 0 and 1: which text has which case-folded word."""
    words = [set(re.findall(r"\w+", text.casefold())) for text in texts]
    column = {word: index for index, word in enumerate(sorted(set().union(*words)))}
    incidence = np.zeros((len(texts), len(column)), dtype=np.float32)
    for row, present in enumerate(words):
        incidence[row, [column[word] for word in present]] = 1
    return incidence


def test_every_row_has_a_text_and_a_label_and_nothing_else(splits: dict[str, list[dict[str, str]]]) -> None:
    for rows in splits.values():
        for row in rows:
            assert list(row) == ["text", "label"]  # a ragged row would show a `None` key or value
            assert row["text"] and row["label"]
            assert row["text"] == row["text"].strip()
            assert row["text"].isprintable()


def test_classes_are_balanced_in_every_split(splits: dict[str, list[dict[str, str]]]) -> None:
    assert sorted(demo.LABELS) == list(demo.LABELS)
    for split, rows in splits.items():
        expected = dict.fromkeys(demo.LABELS, ROWS_PER_CLASS[split])
        assert Counter(row["label"] for row in rows) == expected


def test_rows_are_not_ordered_by_class(splits: dict[str, list[dict[str, str]]]) -> None:
    """The first rows alone (`--max_train_samples`) already hold every class."""
    for rows in splits.values():
        assert {row["label"] for row in rows[:48]} == set(demo.LABELS)


def test_messages_have_4_to_60_words(splits: dict[str, list[dict[str, str]]]) -> None:
    lengths = [len(text.split()) for rows in splits.values() for text in texts_of(rows)]
    assert min(lengths) >= 4
    assert max(lengths) <= 60


def test_no_text_appears_twice(splits: dict[str, list[dict[str, str]]]) -> None:
    counts = Counter(" ".join(text.casefold().split()) for rows in splits.values() for text in texts_of(rows))
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_near_duplicates_across_splits(splits: dict[str, list[dict[str, str]]]) -> None:
    """No two texts of different splits share over 0.8 of their words (Jaccard similarity)."""
    texts = [text for rows in splits.values() for text in texts_of(rows)]
    split_of = np.repeat(np.arange(len(splits)), [len(rows) for rows in splits.values()])
    incidence = word_incidence(texts)
    sizes = incidence.sum(axis=1)
    shared = incidence @ incidence.T
    similarity = shared / (sizes[:, None] + sizes[None, :] - shared)
    close = (similarity > 0.8) & (split_of[:, None] < split_of[None, :])
    assert [(texts[left], texts[right]) for left, right in zip(*np.nonzero(close), strict=True)] == []


def test_no_order_number_links_two_splits(splits: dict[str, list[dict[str, str]]]) -> None:
    """An order number seen in training gives nothing away about another split."""
    numbers = {
        split: {number for text in texts_of(rows) for number in re.findall(r"\b\d{5}\b", text)}
        for split, rows in splits.items()
    }
    for left, right in itertools.combinations(numbers, 2):
        assert numbers[left] & numbers[right] == set()


def test_a_bag_of_words_learns_it_but_does_not_solve_it(splits: dict[str, list[dict[str, str]]]) -> None:
    """Otherwise the demo would show nothing that a language model is needed for."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectorizer = text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    classifier = linear_model.LogisticRegression(C=10, max_iter=1000)
    classifier.fit(
        vectorizer.fit_transform(texts_of(splits["train"])), [row["label"] for row in splits["train"]]
    )
    accuracy = classifier.score(
        vectorizer.transform(texts_of(splits["test"])), [row["label"] for row in splits["test"]]
    )
    assert 0.65 < accuracy < 0.90
