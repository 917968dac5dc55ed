"""Labels: kind, classes and their order, names, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseml.data.known_datasets import BENCHMARK_TASKS
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, LabelEncoder, Labels, choose_labels
from sparseml.data.rows import DataError, Places, RawSplit

NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=6)


def split(
    labels: Sequence[Any], names: tuple[str, ...] = (), file: str = "train.csv", **columns: Any
) -> RawSplit:
    places = Places.of(file, "line", range(2, len(labels) + 2))
    return RawSplit(file, {"label": labels, **columns}, places, {"label": names} if names else {})


def choose(labels: Sequence[Any], **options: Any) -> LabelEncoder:
    return choose_labels(split(labels), [], "label", **options)[0]


def encoded(labels: Sequence[Any], **options: Any) -> list[Any]:
    return choose(labels, **options).encode(split(labels))


@given(st.lists(st.one_of(st.integers(0, 9), NAMES), min_size=2, max_size=30))
def test_classes_are_a_bijection_and_encoding_decodes(values: list[Any]):
    texts = [str(value) for value in values]
    if len(set(texts)) < 2 or {text.lower() for text in texts} <= {"true", "false"}:
        return
    try:
        encoder = choose(texts)
    except DataError:
        return
    labels = encoder.labels
    if labels.kind != SINGLE:
        return
    assert {labels.label2id[name] for name in labels.names} == set(range(labels.num_labels))
    assert [labels.id2label[identity] for identity in encoder.encode(split(texts))] == texts  # type: ignore[index]


@given(st.lists(st.sampled_from("abc"), min_size=2), st.randoms())
def test_order_of_rows_does_not_change_classes(values: list[str], random: Any):
    if len(set(values)) < 2:
        return
    shuffled = random.sample(values, len(values))
    assert choose(shuffled).labels == choose(values).labels


@pytest.mark.parametrize(
    ("values", "names", "ids"),
    [
        ([2, 0, 1], ("0", "1", "2"), [2, 0, 1]),
        (["2", "0", " 1"], ("0", "1", "2"), [2, 0, 1]),
        ([5, 1, 3], ("1", "3", "5"), [2, 0, 1]),
        ([10, 9, 10], ("9", "10"), [1, 0, 1]),
        ([-1, 1, -1], ("-1", "1"), [0, 1, 0]),
        (["spam ", "ham", "spam"], ("ham", "spam"), [1, 0, 1]),
        ([True, False], ("false", "true"), [1, 0]),
        (["True", "False"], ("False", "True"), [1, 0]),
        (["TRUE", "FALSE", "TRUE"], ("FALSE", "TRUE"), [1, 0, 1]),
        (["True", "False", "true"], ("false", "true"), [1, 0, 1]),
        ([0.0, 2.0, 1.0], ("0", "1", "2"), [0, 2, 1]),
        (["0.0", "1.0"], ("0", "1"), [0, 1]),
        (["007", "7"], ("007", "7"), [0, 1]),
        (["1", "n/a"], ("1", "n/a"), [0, 1]),
    ],
)
def test_single_labels(values: list[Any], names: tuple[str, ...], ids: list[int]):
    encoder = choose(values)
    assert (encoder.labels.kind, encoder.labels.names) == (SINGLE, names)
    assert encoder.encode(split(values)) == ids


@pytest.mark.parametrize(
    "values", [[0.5, 1.0], ["3.8", "5.0"], [1.0, 2.0], ["1e-3", "2"], [1, 2.5], ["-0.5", "+.5"]]
)
def test_decimal_numbers_are_scores(values: list[Any]):
    encoder = choose(values)
    assert encoder.labels == Labels(REGRESSION, ("label",))
    assert encoder.encode(split(values)) == [float(value) for value in values]


def test_the_user_may_say_what_numbers_are():
    assert choose([1, 2, 3], do_regression=True).labels.kind == REGRESSION
    assert choose([0.5, 1.5, 0.5], do_regression=False).labels.names == ("0.5", "1.5")
    with pytest.raises(DataError, match="needs numbers"):
        choose(["a", "b"], do_regression=True)


@pytest.mark.parametrize(
    ("values", "names", "rows"),
    [
        ([[0, 2], [1], []], ("0", "1", "2"), [[1, 0, 1], [0, 1, 0], [0, 0, 0]]),
        ([["b"], ["a", "b"]], ("a", "b"), [[0, 1], [1, 1]]),
        (["[0, 2]", "[1]"], ("0", "1", "2"), [[1, 0, 1], [0, 1, 0]]),
        (["['b']", "['a']"], ("a", "b"), [[0, 1], [1, 0]]),
        ([[0, 1, 1], [1, 0, 0]], ("0", "1", "2"), [[0, 1, 1], [1, 0, 0]]),
        ([[0.0, 1.0], [1.0, 0.0]], ("0", "1"), [[0, 1], [1, 0]]),
    ],
)
def test_several_labels_a_row(values: list[Any], names: tuple[str, ...], rows: list[list[float]]):
    encoder = choose(values)
    assert (encoder.labels.kind, encoder.labels.names) == (MULTI, names)
    assert encoder.encode(split(values)) == rows


def test_separated_texts_are_not_guessed_to_be_lists():
    assert choose(["a;b", "a"]).labels.names == ("a", "a;b")


def test_declared_names_keep_their_order():
    train = split([1, 0, 1], names=("yes", "no", "maybe"))
    encoder, _ = choose_labels(train, [], "label")
    assert encoder.labels.names == ("yes", "no", "maybe")
    # Another split may declare the same classes in another order, or write names, or ids.
    assert encoder.encode(split([0, 1, -1], names=("no", "yes"))) == [1, 0, None]
    assert encoder.encode(split(["no", "maybe"])) == [1, 2]
    assert encoder.encode(split([2, 0])) == [2, 0]


def test_declared_names_that_are_numbers_are_names():
    encoder, _ = choose_labels(split([0, 1], names=("1", "2")), [], "label")
    assert encoder.encode(split([1, 0], names=("1", "2"))) == [1, 0]
    assert encoder.encode(split(["1", "2"])) == [0, 1]


def test_id_beyond_the_declared_names():
    with pytest.raises(
        DataError, match=r"holds 7 \(train.csv, line 3\), but declares 2 classes: 0 \(a\) to 1 \(b\)"
    ):
        choose_labels(split([0, 7], names=("a", "b")), [], "label")


def test_companion_column_names_the_classes():
    train = split([1, 0, 1], label_name=["joy", "anger", "joy"])
    encoder, notes = choose_labels(train, [], "label")
    assert encoder.labels.names == ("anger", "joy")
    assert "named by 'label_name'" in notes[0]


def test_companion_column_that_contradicts_itself_is_ignored():
    train = split([1, 0, 1], label_name=["joy", "anger", "anger"])
    assert choose_labels(train, [], "label")[0].labels.names == ("0", "1")


def test_companion_column_of_lists():
    train = RawSplit(
        "t", {"labels": [[1], [0, 1]], "label_names": [["b"], ["a", "b"]]}, Places.of("t", "row", range(2))
    )
    assert choose_labels(train, [], "labels")[0].labels == Labels(MULTI, ("a", "b"))


def test_task_names_the_classes_of_files():
    encoder = choose([1, 0, 1], task=BENCHMARK_TASKS["mrpc"])
    assert encoder.labels.names == ("not_equivalent", "equivalent")
    assert choose([3, 4], task=BENCHMARK_TASKS["stsb"]).labels.kind == REGRESSION
    with pytest.raises(DataError, match="but the task has the classes 0"):
        choose([1, 2], task=BENCHMARK_TASKS["mrpc"])


def test_labels_of_a_model_keep_its_order():
    known = Labels(SINGLE, ("joy", "anger", "fear"))
    assert encoded(["anger", "joy"], known=known) == [1, 0]
    assert encoded([2, 0], known=known) == [2, 0]
    train = split([0, 1], label_name=["anger", "joy"])
    assert choose_labels(train, [], "label", known=known)[0].encode(train) == [1, 0]
    with pytest.raises(DataError, match="labels that the model does not have"):
        encoded(["sadness"], known=known)


def test_label_that_training_does_not_have():
    encoder = choose(["joy", "anger", "joy"])
    validation = split(["joy", "angry", "angry", "fear"], file="dev.csv")
    with pytest.raises(DataError) as caught:
        encoder.encode(validation)
    message = str(caught.value)
    assert message.startswith("dev.csv: labels that the training data does not have")
    assert "'angry': 2 rows (dev.csv, lines 3, 4)" in message
    assert "'fear': 1 row (dev.csv, line 5)" in message
    assert "Did you mean 'anger'?" in message


def test_several_labels_that_training_does_not_have():
    encoder = choose([["a"], ["b"]])
    with pytest.raises(DataError, match=r"'c': 1 row \(dev.csv, line 2\)"):
        encoder.encode(split([["a", "c"]], file="dev.csv"))


@pytest.mark.parametrize("missing", [None, float("nan"), "", " "])
def test_missing_labels_stay_missing(missing: Any):
    values = ["a", missing, "b"]
    assert encoded(values) == [0, None, 1]


def test_minus_one_stands_for_no_label_beside_two_classes():
    assert encoded([0, -1, 1]) == [0, None, 1]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a", "a"], "only the label 'a'"),
        ([0, 0, -1], "only the label '0'.*-1 stands for"),
        ([0.5, 0.5], "every row has the score 0.5"),
        ([None, None], "no row has a label"),
        ([f"text {index}" for index in range(100)], "Is it the label column"),
        ([{"a": 1}], "holds dict values"),
        ([[1], "a"], "holds lists, but not at train.csv, line 3"),
        ([[[1]], [[2]]], "something other than texts and numbers"),
    ],
)
def test_refused(values: list[Any], said: str):
    with pytest.raises(DataError, match=said):
        choose(values)


def test_score_that_is_no_finite_number():
    encoder = choose([0.5, 1.5])
    with pytest.raises(DataError, match=r"holds 'high' \(dev.csv, line 3\), but the labels are scores"):
        encoder.encode(split([1, "high"], file="dev.csv"))
    with pytest.raises(DataError, match=r"infinite at dev.csv, line 2"):
        encoder.encode(split([float("inf")], file="dev.csv"))


def test_lists_beside_single_labels():
    with pytest.raises(DataError, match="cannot be mixed"):
        choose(["a", "b"]).encode(split([["a"]], file="dev.csv"))


def test_class_names_differ():
    with pytest.raises(DataError, match="'a' stands more than once"):
        Labels(SINGLE, ("a", "a"))


@pytest.mark.parametrize("sign", ["|", ";", ","])
def test_joined_names_are_said_to_be_one_class(sign: str):
    values = ["joy", "anger", f"joy{sign} anger"] * 4
    _, notes = choose_labels(split(values), [], "label")
    assert any("taken as one class" in note and "['joy', 'anger']" in note for note in notes)
    assert not any("one class" in note for note in choose_labels(split(["a,b", "c,d"] * 4), [], "label")[1])


@pytest.mark.parametrize(
    ("one", "other"), [("Yes", "yes"), ("not sure", "not-sure"), ("caf\u00e9", "cafe\u0301"), ("\uff21", "a")]
)
def test_names_that_differ_in_their_writing_alone_are_told(one: str, other: str):
    encoder, notes = choose_labels(split([one, other, "no"] * 4), [], "label")
    assert encoder.labels.num_labels == 3
    assert any(f"{one!r} and {other!r}" in note or f"{other!r} and {one!r}" in note for note in notes)


def test_names_of_other_signs_are_other_names():
    assert not any(
        "own" in note for note in choose_labels(split(["C", "C++", "C#", "-", "_"] * 4), [], "label")[1]
    )
