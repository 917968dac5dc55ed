"""Texts that training and evaluation share are counted as a comparison of all pairs counts them."""

from __future__ import annotations

import re

from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from sparseml.data.shared_rows import shared_notes

TEXTS = st.lists(st.tuples(st.text("ab1 ", max_size=3), st.text("ab1 ", max_size=3)), min_size=1, max_size=30)


def split(rows: list[tuple[str, str]]) -> Dataset:
    return Dataset.from_dict({"a": [a for a, _ in rows], "b": [b for _, b in rows]})


@given(train=TEXTS, validation=TEXTS)
def test_as_a_comparison_of_all_pairs(
    train: list[tuple[str, str]], validation: list[tuple[str, str]]
) -> None:
    notes = shared_notes({"train": split(train), "validation": split(validation), "test": None}, ["a", "b"])
    shared = sum(row in train for row in validation)
    assert len(notes) == (shared > 0)
    if notes:
        assert re.match(rf"validation: {shared} of {len(validation)} rows? have", notes[0])


def test_the_places_of_words_count_and_few_rows_do_not() -> None:
    train = split([("a b", "c")] + [(str(number), "") for number in range(300)])
    assert shared_notes({"train": train, "validation": split([("a", "b c")])}, ["a", "b"]) == []
    validation = [("a b", "c")] + [(f"new {number}", "") for number in range(150)]
    assert shared_notes({"train": train, "validation": split(validation)}, ["a", "b"]) == []
    assert shared_notes({"train": train}, ["a", "b"]) == shared_notes({"test": train}, ["a"]) == []
