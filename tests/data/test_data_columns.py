"""Which columns are chosen, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from sparseml.data.columns import choose_label_column, choose_text_columns, profile_column
from sparseml.data.known_datasets import BENCHMARK_TASKS
from sparseml.data.rows import DataError, Places, RawSplit
from sparseml.data.text_classification import clean_texts


def split(**columns: list[Any]) -> RawSplit:
    rows = len(next(iter(columns.values())))
    return RawSplit("a.csv", columns, Places.of("a.csv", "line", range(2, rows + 2)))


def named(*names: str) -> RawSplit:
    return split(**{name: ["some words"] for name in names})


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (("idx", "sentence1", "sentence2", "label"), ("sentence1", "sentence2")),
        (("pair_ID", "sentence_A", "sentence_B", "label"), ("sentence_A", "sentence_B")),
        (("label", "title", "text"), ("text",)),
        (("Unnamed: 0", "headline", "label"), ("headline",)),
        (("headline", "body", "extra", "label"), ("headline", "body")),
    ],
)
def test_text_columns_by_name(columns: tuple[str, ...], chosen: tuple[str, ...]):
    assert choose_text_columns(named(*columns), None, "label", None)[0] == chosen


def test_text_columns_by_content():
    data = split(uid=["u v"], code=["x1"], label=["a b"], label_name=["c d"], score=[3], body=["some words"])
    chosen, notes = choose_text_columns(data, None, "label", None)
    assert chosen == ("body",)
    assert "the only one that holds text" in notes[0]


def test_no_column_holds_text():
    with pytest.raises(DataError, match="no column holds text"):
        choose_text_columns(split(score=[1.5], label=[1]), None, "label", None)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("b", ("b",)), ("b,a", ("b", "a")), (" b , a ", ("b", "a")), ("x,y", ("x,y",))],
)
def test_text_columns_as_said(wanted: str, chosen: tuple[str, ...]):
    assert choose_text_columns(named("a", "b", "x,y"), wanted, None, None) == (chosen, [])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("txet", "no column 'txet' .--input_column_names.. Did you mean 'text'. Columns: text, label"),
        ("a,b,c", "give one column, or two"),
        ("text,", "give one column, or two"),
        ("text,text", "the two columns are the same"),
    ],
)
def test_text_columns_that_are_not_there(wanted: str, said: str):
    with pytest.raises(DataError, match=said):
        choose_text_columns(named("text", "label"), wanted, "label", None)


def test_task_columns():
    assert choose_text_columns(
        named("sentence", "question", "label"), None, "label", BENCHMARK_TASKS["qnli"]
    )[0] == (
        "question",
        "sentence",
    )


def test_label_column():
    assert choose_label_column([named("text", "label")], "label", True) == ("label", [])
    assert choose_label_column([named("text", "mood")], "mood", True) == ("mood", [])
    chosen, notes = choose_label_column([named("text", "target")], "label", True)
    assert chosen == "target"
    assert notes == ["label column: 'target' (there is no 'label')"]
    assert choose_label_column([named("text")], None, False) == (None, [])


def test_label_column_that_is_not_there():
    with pytest.raises(DataError, match=r"no column 'mod' .--label_column_name.. Did you mean 'mood'"):
        choose_label_column([named("text", "mood")], "mod", True)


def test_file_without_header_line():
    with pytest.raises(DataError, match="Does the file lack its header line"):
        choose_label_column([named("I loved it", "1")], "label", True)


def test_rows_without_text_are_left_out_and_said():
    data = split(text=["a", None, " ", "b", "c", "d", "e", "f", "g", "h"], label=list(range(10)))
    cleaned, notes = clean_texts(data, ["text"], keep_all=False)
    assert cleaned.columns["label"] == [0, 3, 4, 5, 6, 7, 8, 9]
    assert notes == ["2 rows without text left out (a.csv, lines 3, 4)"]
    assert cleaned.places.describe([1]) == "a.csv, line 5"


def test_pair_with_one_empty_text_is_kept():
    data = split(a=["", "x"], b=["y", "z"])
    assert clean_texts(data, ["a", "b"], keep_all=False)[1] == []


def test_rows_to_predict_are_kept():
    cleaned, notes = clean_texts(split(text=["a", None]), ["text"], keep_all=True)
    assert cleaned.columns["text"] == ["a", ""]
    assert notes == ["1 row without text kept as empty (a.csv, line 3)"]


def test_numbers_become_text():
    assert clean_texts(split(text=[1, 2.5, "x"]), ["text"], keep_all=False)[0].columns["text"] == [
        "1",
        "2.5",
        "x",
    ]


def test_many_rows_without_text():
    with pytest.raises(DataError, match=r"2 of 3 rows have no text in text .a.csv, lines 2, 3"):
        clean_texts(split(text=[None, float("nan"), "x"]), ["text"], keep_all=False)


def test_lists_are_no_text():
    with pytest.raises(DataError, match=r"holds list values, not text .a.csv, line 2."):
        clean_texts(split(text=[["a", "b"]]), ["text"], keep_all=False)


REVIEWS = [f"a text of some words that nobody wrote twice, {index}" for index in range(12)]


def table(**columns: list[Any]) -> RawSplit:
    return split(review=REVIEWS, **columns)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["a", "b"] * 6, "categorical"),
        ([0, 1, 2] * 4, "categorical"),
        ([True, False] * 6, "categorical"),
        (["1", "2"] * 6, "categorical"),
        ([None, "", "x y", "z"] * 3, "categorical"),
        ([1.5 * index for index in range(12)], "number"),
        (list(range(12)), "identifier"),
        ([f"A-{index}" for index in range(12)], "identifier"),
        ([f"2024-0{1 + index % 9}-11" for index in range(12)], "date"),
        ([f"{index + 1}/3/24 10:00" for index in range(12)], "date"),
        ([f"March {index}, 2024" for index in range(12)], "date"),
        ([["a"], ["b", "c"]] * 6, "list"),
        ([None] * 12, "empty"),
        (REVIEWS, "text"),
    ],
)
def test_kinds_of_columns(column: list[Any], kind: str):
    assert profile_column(split(column=column), "column").kind == kind


def test_label_by_content():
    days = [f"2024-01-{10 + index}" for index in range(12)]
    data = table(id=list(range(12)), day=days, mood=["good", "bad"] * 6, price=[1.1 * i for i in range(12)])
    chosen, notes = choose_label_column([data], "label", True)
    assert chosen == "mood"
    assert "the only one of few values (2)" in notes[0]
    assert choose_text_columns(data, None, chosen, None)[0] == ("review",)


def test_several_could_be_the_label():
    data = table(mood=["good", "bad"] * 6, town=["Ulm", "Bonn", "Kiel"] * 4)
    with pytest.raises(DataError, match=r"'mood' \(2 different values\), 'town' \(3 different values\)"):
        choose_label_column([data], "label", True)


def test_a_row_in_the_place_of_the_header():
    data = split(**{"I loved it": REVIEWS, "positive": ["positive", "negative"] * 6})
    with pytest.raises(DataError, match="seems to be a row and no header"):
        choose_label_column([data], "label", True)


def test_names_in_any_case():
    data = split(Text=REVIEWS, Category=["a", "b"] * 6)
    assert choose_label_column([data], "label", True)[0] == "Category"
    assert choose_text_columns(data, None, "Category", None)[0] == ("Text",)


def test_a_short_title_is_not_the_other_half_of_a_pair():
    data = split(heading=[f"short {index}" for index in range(12)], story=REVIEWS, label=["a", "b"] * 6)
    chosen, notes = choose_text_columns(data, None, "label", None)
    assert chosen == ("story",)
    assert "whose texts are the longest" in notes[0]
