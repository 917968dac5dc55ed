"""The summary: its facts against counts by hand, and its lines for 2 to 60 classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparseml.data import Labels
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Kind
from sparseml.guided import summary_text
from sparseml.guided.summary import Predictions, facts


def answers(kind: Kind, names: tuple[str, ...], truth: Any, logits: Any) -> Predictions:
    texts = [(f"text {row}",) for row in range(len(truth))]
    return Predictions(texts, np.asarray(truth), np.asarray(logits, dtype=np.float32), Labels(kind, names))


def whole(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "rows-classifier",
        "train_rows": 90,
        "rows_called": "validation",
        "answers": found,
        "size": {"dense_bytes": 90_000_000, "stored_bytes": 22_000_000, "compressed_bytes": 11_000_000},
        "speed": {
            "median_ms": 3.21,
            "texts_per_second": 1234.5,
            "engine": "onnxruntime",
            "cores": 1,
            "cpu": "C",
        },
        "check": {"rows": 4, "label_agreement": 1.0},
        "next": {"serve it": ["deepsparse.server", "--model_path", "a folder"]},
    }


def said(found: dict[str, Any]) -> str:
    return "\n".join(summary_text.lines(whole(found)))


def test_single_labels() -> None:
    logits = [[2, 0], [0, 9], [0, 3], [1, 0]]
    found = facts(answers(SINGLE, ("no", "yes"), [0, 0, 1, 1], logits))
    assert found["accuracy"] == 0.5
    assert found["confusion"] == {"no": {"no": 1, "yes": 1}, "yes": {"no": 1, "yes": 1}}
    assert [entry["text"] for entry in found["wrong"]] == [["text 1"], ["text 3"]]  # the surest first
    assert found["wrong"][0]["score"] == pytest.approx(1 / (1 + np.exp(-9)))
    assert found["commonest"]["share"] == 0.5
    text = said(found)
    assert '"text 1"\n    is no, predicted yes (100% sure)' in text
    assert "learned next to nothing" in text  # no better than one class always
    assert "deepsparse.server --model_path 'a folder'" in text
    assert "3.21 ms" in text and "1,234/s" in text and "11.0 MB" in text


@pytest.mark.parametrize("truth", [[0, 0, 1, 1], [0, 1, 0, 1]])
def test_a_hint_is_for_a_model_that_has_learned_nothing(truth: list[int]) -> None:
    found = facts(answers(SINGLE, ("no", "yes"), truth, [[9, 0], [0, 9], [9, 0], [0, 9]]))
    text = "\n".join(summary_text.lines({**whole(found), "hint": "Take another model."}))
    assert ("Take another model." in text) == (truth == [0, 0, 1, 1])
    assert found["learned"] == (truth == [0, 1, 0, 1])


def test_all_right() -> None:
    found = facts(answers(SINGLE, ("no", "yes"), [0, 1], [[9, 0], [0, 9]]))
    assert "All 2 rows are right" in said(found)
    assert "next to nothing" not in said(found)


def test_margin_covers_the_true_share_as_often_as_it_says() -> None:
    source = np.random.default_rng(0)
    rows, share = 60, 0.8
    hits = 0
    for _ in range(400):
        right = source.random(rows) < share
        logits = np.stack([right, ~right], axis=1).astype(np.float32)
        found = facts(answers(SINGLE, ("a", "b"), np.zeros(rows, np.int64), logits))
        hits += abs(found["accuracy"] - share) <= found["margin"]
    assert 0.93 <= hits / 400 <= 0.99


def test_several_labels() -> None:
    truth = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    logits = [[5, -5, -5], [-5, 5, -5], [-5, 9, -5]]
    found = facts(answers(MULTI, ("a", "b", "c"), truth, logits))
    assert found["exact"] == pytest.approx(1 / 3)
    assert {entry["label"]: entry["rows"] for entry in found["labels"]} == {"a": 1, "b": 1, "c": 1}
    assert {entry["label"]: entry["f1"] for entry in found["labels"]} == {
        "a": 1.0,
        "b": pytest.approx(2 / 3),
        "c": 0.0,
    }
    assert {tuple(entry["text"]) for entry in found["wrong"]} == {("text 0",), ("text 2",)}
    text = said(found)
    assert "is a, c; predicted a (99%)" in text
    assert "is nothing; predicted b (100%)" in text


def test_scores() -> None:
    found = facts(answers(REGRESSION, ("score",), [0.0, 1.0, 5.0, 2.0], [[0.5], [1.0], [3.0], [2.0]]))
    assert found["mae"] == pytest.approx(2.5 / 4)
    assert found["range"] == [0.0, 5.0]
    assert [entry["text"] for entry in found["wrong"]] == [["text 2"], ["text 0"], ["text 1"]]
    assert "is 5, predicted 3" in said(found)
    assert "a score from 0 to 5" in said(found)


@pytest.mark.parametrize("length", [2, 9, 40])
@pytest.mark.parametrize("classes", [2, 3, 6, 12, 20])
def test_matrix_is_aligned_or_left_out(classes: int, length: int) -> None:
    names = [f"{index:02d}".ljust(length, "x") for index in range(classes)]
    confusion = {true: {taken: int(true == taken) * 12 for taken in names} for true in names}
    made = summary_text.matrix(confusion, 110)
    assert bool(made) == (classes < 20 or length < 40)
    lines = [line for line in made if "%" in line]
    assert len(lines) == (classes if made else 0)
    assert len(set(map(len, lines))) <= 1
    assert max(map(len, made), default=0) <= 110
    columns = [line.rindex("12") for line in lines]
    assert columns == sorted(set(columns))


@pytest.mark.parametrize("classes", [26, 30])
def test_classes_that_no_line_holds_get_a_line_each(classes: int) -> None:
    names = tuple(f"a-class-with-a-name-{index}" for index in range(classes))
    truth = np.arange(classes)
    text = said(facts(answers(SINGLE, names, truth, np.eye(classes)[(truth + (truth < 1)) % classes] * 9)))
    assert "a-class-with-a-name-0        1     0%  a-class-with-a-name-1 (1)" in text
    assert all(f"{name} " in text for name in names)


def test_so_many_classes_that_only_their_confusions_are_said() -> None:
    names = tuple(f"class-{index}" for index in range(60))
    truth = np.arange(60)
    logits = np.eye(60)[(truth + (truth < 3)) % 60] * 9
    text = said(facts(answers(SINGLE, names, truth, logits)))
    assert "class-0 taken for class-1" in text
    assert "and 30 better ones" in text


def test_long_texts_and_names_are_cut() -> None:
    found = facts(answers(SINGLE, ("n" * 90, "yes"), [0, 1], [[0, 9], [0, 9]]))
    found["wrong"][0]["text"] = ["word\n" * 200, "second"]
    text = said(found)
    assert max(map(len, text.splitlines())) <= 140
    assert '..."' in text
