"""Token classification in the runtime: strategies, words, windows, requests; against what each is said to be."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepsparse import Pipeline, predict
from deepsparse.errors import EngineError, InputError, ModelError
from support.deployment import token_deployment

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WORDS = ["Ann", "Lee", "##s", "lives", "in", "Rome", "New", "York", "."]
# The tag of each word, and how sure the model is of it.
TAGS = {"Ann": 1, "Lee": 2, "##s": 4, "lives": 0, "in": 0, "Rome": 3, "New": 3, "York": 4, ".": 0}
SURE = {"##s": 6.0}


def table() -> np.ndarray:
    values = np.zeros((len(WORDS), len(NAMES)), np.float32)
    for row, word in enumerate(WORDS):
        values[row, TAGS[word]] = SURE.get(word, 3.0)
    return values


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return token_deployment(
        tmp_path_factory.mktemp("tagger"),
        WORDS,
        {"logits": table()},
        task="token_classification",
        id2label=dict(enumerate(NAMES)),
    )


def shares(vector: np.ndarray) -> np.ndarray:
    raised = np.exp(vector - vector.max())
    return np.asarray(raised / raised.sum())


def test_tokens_have_the_fields_of_deepsparse(deployed: Path) -> None:
    tag = Pipeline.create("ner", deployed)
    found = tag("Ann Lees lives in New York.").predictions
    assert [(one.entity, one.index, one.word, one.start, one.end) for one in found[0]] == [
        ("B-PER", 1, "Ann", 0, 3),
        ("I-PER", 2, "Lee", 4, 7),
        ("I-LOC", 3, "##s", 7, 8),
        ("B-LOC", 6, "New", 18, 21),
        ("I-LOC", 7, "York", 22, 26),
    ]
    assert not any(one.is_grouped for one in found[0])
    assert found[0][0].score == pytest.approx(shares(table()[0]).max())
    everything = Pipeline.create("ner", deployed, ignore_labels=["B-PER"])("Ann lives").predictions[0]
    assert [one.entity for one in everything] == ["O"]


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("simple", [("PER", "Ann Lee"), ("LOC", "s"), ("LOC", "New York")]),
        ("first", [("PER", "Ann Lees"), ("LOC", "New York")]),
        ("average", [("PER", "Ann"), ("LOC", "Lees"), ("LOC", "New York")]),
        ("max", [("PER", "Ann"), ("LOC", "Lees"), ("LOC", "New York")]),
    ],
)
def test_strategies(deployed: Path, strategy: str, wanted: list[tuple[str, str]]) -> None:
    text = "Ann Lees lives in New York."
    tag = Pipeline.create("token_classification", deployed, aggregation_strategy=strategy)
    found = tag([text, "Rome"]).predictions
    assert [(one.entity, one.word) for one in found[0]] == wanted
    assert all(text[one.start : one.end] == one.word and one.is_grouped for one in found[0])
    assert [(one.entity, one.word) for one in found[1]] == [("LOC", "Rome")]
    (last,) = (one for one in found[0] if one.word == "New York")
    assert last.score == pytest.approx((shares(table()[6]).max() + shares(table()[7]).max()) / 2)
    if strategy == "average":
        lees = found[0][1]
        assert lees.score == pytest.approx(((shares(table()[1]) + shares(table()[2])) / 2).max())


def test_words_that_are_given(deployed: Path) -> None:
    tag = Pipeline.create("ner", deployed)
    words = ["Ann", "Lees", "", "lives", "New York"]
    found = tag(inputs=words, is_split_into_words=True).predictions[0]
    joined = " ".join(words)
    assert [(one.entity, one.word, joined[one.start : one.end]) for one in found] == [
        ("B-PER", "Ann", "Ann"),
        ("I-PER", "Lee", "Lee"),
        ("B-LOC", "New", "New"),
    ]
    assert tag.predict(inputs=[words, ["Rome"]], is_split_into_words=True)[0].word_tags() == [
        "B-PER",
        "I-PER",
        "O",
        "O",
        "B-LOC",
    ]
    grouped = Pipeline.create("ner", deployed, aggregation_strategy="first")
    (first, last) = grouped(inputs=words, is_split_into_words=True).predictions[0]
    assert (first.word, last.word) == ("Ann Lees", "New York")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(["Ann", "Lees", "Rome", "."]), min_size=1, max_size=60))
@pytest.mark.parametrize("length", [5, 8, 11])
def test_windows_lose_and_double_nothing(deployed: Path, length: int, words: list[str]) -> None:
    """The table's answers do not depend on the window, so any window's length gives those of one window."""
    text = " ".join(words)
    cut, whole = (_piped(deployed, sequence_length=size).predict(text)[0] for size in (length, 512))
    assert cut.pieces == whole.pieces and cut.index == whole.index
    assert cut.offsets.tolist() == whole.offsets.tolist() and cut.words.tolist() == whole.words.tolist()
    np.testing.assert_array_equal(cut.scores, whole.scores)


_KEPT: dict[Any, Any] = {}


def _piped(folder: Path, **settings: Any) -> Any:
    key = (folder, *settings.items())
    if key not in _KEPT:
        _KEPT[key] = Pipeline.create("ner", folder, **settings)
    return _KEPT[key]


def test_mistakes_are_told(deployed: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="Did you mean 'average'"):
        Pipeline.create("ner", deployed, aggregation_strategy="averge")
    with pytest.raises(EngineError, match="a list of labels"):
        Pipeline.create("ner", deployed, ignore_labels="O")
    tag = _piped(deployed)
    for fields, says in (
        ({"inputs": ["Ann", " "]}, r"inputs\[1\] is empty"),
        ({"inputs": 3}, "a number"),
        ({"text": "x"}, '"inputs" is missing'),
        ({"inputs": "Ann", "is_split_into_words": True}, "a list is wanted"),
        ({"inputs": [["a"], [3]], "is_split_into_words": True}, r"inputs\[1\]"),
        ({"inputs": "\ud800"}, "surrogate"),
    ):
        with pytest.raises(InputError, match=says):
            tag(**fields)
    with pytest.raises(InputError, match="aggregation_strategy is 'all'"):
        tag.handler.options({"aggregation_strategy": "all"})
    other = token_deployment(
        tmp_path / "other",
        WORDS,
        {"logits": table()},
        task="token_classification",
        id2label={0: "O", 1: "X"},
    )
    with pytest.raises(ModelError, match="names 2 tags"):
        Pipeline.create("ner", other)


def test_of_files_and_of_the_open_inference_protocol(deployed: Path) -> None:
    tag = _piped(deployed)
    (text,) = tag.handler.values(tag.predict("Ann lives in New York")[0])
    assert [(one["entity"], one["word"]) for one in json.loads(text)] == [("PER", "Ann"), ("LOC", "New York")]
    (row,) = tag("Rome").tensors()["predictions"]
    assert json.loads(row)[0]["entity"] == "B-LOC"


@pytest.mark.parametrize("written", ['["Ann", "Lees", "lives"]', "['Ann', 'Lees', 'lives']"])
def test_lists_of_words_in_a_file_are_words_as_in_training(
    deployed: Path, tmp_path: Path, written: str
) -> None:
    source, labelled = tmp_path / "rows.csv", tmp_path / "labelled.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["tokens"], [written], ["[in] Rome"]])
    assert predict.main([str(deployed), "--input", str(source), "--output", str(labelled)]) == 0
    with labelled.open(newline="") as file:
        found = [json.loads(row["predicted_entities"]) for row in csv.DictReader(file)]
    tag = Pipeline.create("ner", deployed, aggregation_strategy="first")
    words = tag(inputs=["Ann", "Lees", "lives"], is_split_into_words=True).predictions[0]
    assert [(one["word"], one["start"], one["end"]) for one in found[0]] == [
        (one.word, one.start, one.end) for one in words
    ]
    assert [(one["word"], one["start"]) for one in found[1]] == [("Rome", 5)]
