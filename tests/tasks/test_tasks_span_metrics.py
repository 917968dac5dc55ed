"""SQuAD's metrics by hand examples of the published rules, by properties, and against another library's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseml.span_metrics import Answered, best_threshold, exact_match, f1, mistakes, normalize, scores

WORDS = st.lists(st.sampled_from(["the", "Cat", "cat", "sat", "a", "mat.", "-", "42", "é"]), max_size=6)
TEXTS = WORDS.map(" ".join)


@pytest.mark.parametrize(
    ("one", "other", "exact", "words"),
    [
        ("the Cat!", "cat", 1.0, 1.0),
        ("a black cat", "cat", 0.0, 2 / 3),
        ("cat cat", "cat", 0.0, 2 / 3),
        ("dog", "cat", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("", "cat", 0.0, 0.0),
        ("the", "", 1.0, 1.0),  # nothing is left of it
        ("U.S.A.", "usa", 1.0, 1.0),
        ("theatre", "atre", 0.0, 0.0),  # articles are whole words
        ("1,000 km", "1000 km", 1.0, 1.0),
    ],
)
def test_by_hand(one: str, other: str, exact: float, words: float) -> None:
    assert exact_match(one, other) == exact
    assert f1(one, other) == pytest.approx(words)


@given(TEXTS, TEXTS)
def test_properties(one: str, other: str) -> None:
    assert 0 <= f1(one, other) == f1(other, one) <= 1
    assert f1(one, other) >= exact_match(one, other) == exact_match(other, one)
    assert f1(one, one) == exact_match(one, one) == 1
    assert normalize(normalize(one)) == normalize(one)


def test_of_several_gold_answers_the_nearest_counts() -> None:
    row = Answered(["black cat", "cat"], "the cat")
    assert scores([row], version_2=False) == {"exact_match": 100.0, "f1": 100.0}
    assert scores([row, Answered(["dog"], "cat")], version_2=False) == {"exact_match": 50.0, "f1": 50.0}


def test_version_2_by_hand() -> None:
    rows = [
        Answered(["cat"], "cat", "cat", -5.0),
        Answered(["black cat"], "cat", "cat", -1.0),
        Answered([], "", "dog", 2.0),
        Answered([], "dog", "dog", -2.0),
    ]
    found = scores(rows, version_2=True)
    assert found["exact"] == 50 and found["f1"] == pytest.approx(100 * (1 + 2 / 3 + 1 + 0) / 4)
    assert (found["HasAns_exact"], found["HasAns_total"]) == (50, 2)
    assert (found["NoAns_exact"], found["NoAns_f1"], found["NoAns_total"], found["total"]) == (50, 50, 2, 4)
    # Only the first spoken: one right answer and two right silences.
    assert (found["best_exact"], found["best_exact_thresh"]) == (75, -5)
    assert mistakes(rows, version_2=True) == {"exact": 2, "partly": 1, "wrong": 0, "missed": 0, "invented": 1}
    assert not {"HasAns_exact", "best_f1"} & scores([Answered([], "")], version_2=True).keys()


ROWS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["cat", "dog"]), max_size=1),
        st.sampled_from(["cat", "dog"]),
        st.integers(-3, 3),
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS)
def test_the_best_threshold_is_the_best_of_all(given_rows: list[tuple[list[str], str, int]]) -> None:
    rows = [Answered(gold, "", said, float(odds)) for gold, said, odds in given_rows]

    def reached(threshold: float) -> float:
        said = [row.best_span if (row.null_odds or 0.0) <= threshold else "" for row in rows]
        return (
            100 * sum(row.score(exact_match, text) for row, text in zip(rows, said, strict=True)) / len(rows)
        )

    best, threshold = best_threshold(rows, exact_match)
    assert best == pytest.approx(reached(threshold))
    assert best == pytest.approx(max(map(reached, range(-4, 4))))


def test_the_same_as_torchmetrics() -> None:
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    rows = [
        ("the Cat sat", ["cat", "a cat sat!"]),
        ("on the mat", ["mat", "the red mat"]),
        ("42", ["forty-two", "42."]),
        ("", ["nothing"]),
        ("an", ["the", "mat"]),
    ]
    theirs = squad(
        [{"prediction_text": said, "id": str(number)} for number, (said, _) in enumerate(rows)],
        [
            {"answers": {"text": gold, "answer_start": [0] * len(gold)}, "id": str(number)}
            for number, (_, gold) in enumerate(rows)
        ],
    )
    ours = scores([Answered(gold, said) for said, gold in rows], version_2=False)
    assert ours == pytest.approx({name: float(value) for name, value in theirs.items()})
