"""Questions on passages: read from every form, answers checked against the passages, cut into windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resparse.spans import Reading
from sparseml.data import DataError, DataOptions
from sparseml.data.question_answering import QuestionData, load_questions
from sparseml.data.question_windows import answer_tokens, encode_windows, shortened, windows_by_row
from support import questions, tiny
from support.child import run_json
from support.hub import LoopbackHub
from support.hub_data import repository

ROWS = questions.rows(12, seed=1)
_LOADING = """
import json, sys
from resparse.spans import Reading
from sparseml.data import DataOptions
from sparseml.data.question_answering import load_questions
data = load_questions(DataOptions(**json.load(sys.stdin)), Reading())
held = data.validation
found = {"rows": data.rows, "reading": data.reading.stated(), "notes": data.notes}
print(json.dumps({**found, "answers": list(held["answers"]), "starts": list(held["answer_start"])}))
"""


def load(file: Path, **more: Any) -> QuestionData:
    """The training rows of a file."""
    return load_questions(DataOptions(train_file=str(file), needs_eval=False), Reading(), **more)


def as_csv(path: Path, starts: bool) -> Path:
    rows = [
        {
            "query": row["question"],
            "passage": row["context"],
            "answer": "".join(row["answers"]["text"]),
            **({"answer_start": "".join(map(str, row["answers"]["answer_start"]))} if starts else {}),
        }
        for row in ROWS
    ]
    return tiny.write(path, rows)


def forms(folder: Path) -> dict[str, Path]:
    """The same rows in every form that is read."""
    listed = [
        {
            **row,
            "answers": [
                dict(zip(row["answers"], values, strict=True))
                for values in zip(*row["answers"].values(), strict=True)
            ],
        }
        for row in ROWS
    ]
    flat, indented = folder / "flat.json", folder / "indented.json"
    flat.write_text(json.dumps({"data": ROWS}))
    indented.write_text(json.dumps(questions.squad(ROWS), indent=1))
    return {
        "squad 2.0": questions.write(folder / "v2.json", ROWS),
        "squad 1.1": questions.write(folder / "v1.json", ROWS, version_2=False),
        "squad, indented": indented,
        "run_qa": flat,
        "lines": tiny.write(folder / "rows.jsonl", ROWS),
        "lists": tiny.write(folder / "listed.jsonl", listed),
        "json in csv": tiny.write(
            folder / "json.csv", [{**row, "answers": json.dumps(row["answers"])} for row in ROWS]
        ),
        "csv": as_csv(folder / "starts.csv", starts=True),
        "csv without places": as_csv(folder / "plain.csv", starts=False),
    }


def test_every_form_gives_the_same_rows(tmp_path: Path) -> None:
    for form, path in forms(tmp_path).items():
        data = load(path)
        assert data.train is not None and data.reading.version_2_with_negative, form
        for found, row in zip(data.train, ROWS, strict=True):
            assert (found["question"], found["context"]) == (row["question"], row["context"]), form
            assert found["answers"] == row["answers"]["text"], form
            assert found["answer_start"] == row["answers"]["answer_start"], form
        if "csv without" not in form and "starts" not in path.name:
            assert [row["id"] for row in data.train] == [row["id"] for row in ROWS], form


def test_the_hub_s_datasets_by_their_old_names(hub: LoopbackHub, tmp_path: Path) -> None:
    from datasets import Dataset, Features, List, Value

    answers = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
    names = ("id", "title", "context", "question")
    kinds = Features({**{name: Value("string") for name in names}, "answers": answers})
    rows = {name: [row.get(name, "Words") for row in ROWS] for name in (*names, "answers")}
    Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    hub.add(
        "rajpurkar/squad_v2", repository({"squad_v2": {"train": content, "validation": content}}), "datasets"
    )
    found = run_json(_LOADING, {"dataset_name": "squad_v2"}, hub.environment(tmp_path))
    assert found["rows"] == {"train": 12, "validation": 12} and found["reading"]["version_2_with_negative"]
    assert found["answers"] == [row["answers"]["text"] for row in ROWS]
    assert found["starts"] == [row["answers"]["answer_start"] for row in ROWS]
    assert "'squad_v2' is rajpurkar/squad_v2 on the Hub" in found["notes"][0]


def row(answers: Any, context: str = "it is a fine day and a fine song", **more: Any) -> dict[str, Any]:
    return {"question": "lovely ?", "context": context, "answers": answers, **more}


def placed(text: str, start: int) -> dict[str, Any]:
    return {"text": [text], "answer_start": [start]}


def test_wrong_places_are_mended_and_said(tmp_path: Path) -> None:
    rows = [row(placed("fine", 8)), row(placed("fine", 20)), row(placed("fine", 9)), row(placed(" fine", 99))]
    data = load(tiny.write(tmp_path / "rows.jsonl", [*rows, *[row("day")] * 2]))
    assert data.train is not None
    assert [start for (start,) in data.train["answer_start"]] == [8, 23, 8, 22, 13, 13]
    assert [answer for (answer,) in data.train["answers"]][3] == " fine"
    (note,) = [note for note in data.notes if "nearest" in note]
    assert "3 rows" in note and "lines 2, 3, 4" in note


def test_answers_that_are_not_in_the_passage(tmp_path: Path) -> None:
    absent = row(placed("grim", 3))
    few = tiny.write(tmp_path / "few.jsonl", [*[row("day")] * 30, absent])
    data = load(few)
    assert data.train is not None and len(data.train) == 30
    assert any("1 row left out" in note and "line 31" in note for note in data.notes)
    with pytest.raises(DataError, match=r"1 have an answer that is not in the passage .*line 1.*'grim'"):
        load(tiny.write(tmp_path / "many.jsonl", [absent, row("day")]))
    # For metrics the words are enough.
    options = DataOptions(train_file=str(few), validation_file=str(tmp_path / "many.jsonl"))
    held = load_questions(options, Reading()).validation
    assert held is not None and held["answer_start"] == [[-1], [13]]


def test_questions_without_an_answer_where_each_is_to_have_one(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "rows.jsonl", ROWS)
    data = load(path, version_2=False)
    assert data.train is not None and all(data.train["answers"]) and len(data.train) == 9
    assert not data.reading.version_2_with_negative and any("3 rows left out" in note for note in data.notes)
    only = tiny.write(tmp_path / "none.jsonl", [row([])] * 3)
    with pytest.raises(DataError, match="no question has an answer"):
        load(only, version_2=False)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([{"text": "x", "label": "y"}], "no column 'question' or 'query', but text, label"),
        ([{"question": "x", "label": "y"}], "--context_column_name"),
        ([{"question": "x", "context": "y"}], "--answer_column_name"),
        ([row({"text": ["fine"], "answer_start": [1, 2]})], "line 1: 1 answers, but 2 places"),
        ([row([3])], "is no text"),
        ([row(placed("fine", "there"))], "answer_start is 'there'"),
        ([row("day"), row(None)], "1 row without answers in 'answers' .*line 2"),
        ([row("day"), row("", context=" ")] + [row("day")] * 6, ""),
    ],
)
def test_rows_that_cannot_be_read(tmp_path: Path, rows: list[dict[str, Any]], wanted: str) -> None:
    path = tiny.write(tmp_path / "rows.jsonl", rows)
    if wanted:
        with pytest.raises(DataError, match=wanted):
            load(path)
    else:
        data = load(path)
        assert data.train is not None and len(data.train) == 7
        assert any("without a question or a passage" in note for note in data.notes)


@pytest.mark.parametrize(
    ("whole", "wanted"),
    [
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "article 1, paragraph 1 has no text in 'context'"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": 3}]}]}, "no list of objects in 'qas'"),
        ({"data": [{"paragraphs": []}]}, "no rows"),
        ({"rows": []}, "one JSON object"),
    ],
)
def test_files_that_are_no_squad(tmp_path: Path, whole: Any, wanted: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(whole, indent=1))
    with pytest.raises(DataError, match=wanted):
        load(path)


# Windows.


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer(questions.WORDS)


@pytest.mark.parametrize("stride", [0, 3, 9])
def test_windows_cover_the_passage_and_hold_the_answers(tokenizer: Any, tmp_path: Path, stride: int) -> None:
    path = tiny.write(tmp_path / "rows.jsonl", questions.rows(40, seed=stride, words=60))
    split = load(path).train
    assert split is not None
    reading = Reading(max_seq_length=24, max_question_length=2, doc_stride=stride)
    rows = encode_windows(split, "train", tokenizer, reading)
    assert max(rows["length"]) == 24 and set(rows["split"]) == {"train"}
    seen: dict[int, list[set[int]]] = {}
    answers: dict[int, set[str]] = {}
    for one in rows:
        context = split[one["row"]]["context"]
        offsets = np.reshape(one["offsets"], (-1, 2))
        seen.setdefault(one["row"], []).append({int(start) for start, _ in offsets})
        if one["start_positions"]:
            first, last = one["start_positions"] - one["first"], one["end_positions"] - one["first"]
            answers.setdefault(one["row"], set()).add(context[offsets[first, 0] : offsets[last, 1]])
        else:
            assert one["end_positions"] == 0
    for number, row in enumerate(split):
        starts = {place for place, _ in _words(row["context"])}
        assert set.union(*seen[number]) == starts
        for before, after in zip(seen[number], seen[number][1:], strict=False):
            assert len(before & after) == stride
        assert answers.get(number, set()) == set(row["answers"])


def _words(text: str) -> list[tuple[int, int]]:
    places, start = [], 0
    for word in text.split(" "):
        places.append((start, start + len(word)))
        start += len(word) + 1
    return places


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.data())
def test_answer_tokens_are_the_fewest_that_hold_the_answer(widths: list[int], data: st.DataObject) -> None:
    ends = np.cumsum([width + 1 for width in widths]) - 1
    offsets = np.stack([ends - widths, ends], axis=1)
    start = data.draw(st.integers(0, int(ends[-1]) - 1))
    end = data.draw(st.integers(start + 1, int(ends[-1])))
    found = answer_tokens(offsets, start, end)
    assert found is not None
    first, last = found
    assert offsets[first, 0] <= start and offsets[last, 1] >= end and first <= last
    assert first == len(widths) - 1 or offsets[first + 1, 0] > start
    assert last == first or offsets[last - 1, 1] < end
    assert answer_tokens(offsets + 10, 9, 12) is None and answer_tokens(offsets, 0, int(ends[-1]) + 1) is None


def test_outputs_come_back_by_row_without_padding(tokenizer: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "rows.jsonl", questions.rows(10, seed=4, words=40))
    split = load(path).train
    rows = encode_windows(split, "train", tokenizer, Reading(max_seq_length=24, doc_stride=4))
    shuffled = rows.select(np.random.default_rng(0).permutation(len(rows)))
    ids = np.full((len(rows), 30), -100)
    for place, one in enumerate(shuffled):
        ids[place, : one["length"]] = one["input_ids"]
    found = dict(windows_by_row(shuffled, (ids, ids)))
    assert list(found) == list(range(10)) and sum(map(len, found.values())) == len(rows)
    for number, windows in found.items():
        words = split[number]["context"].split() if split is not None else []
        for window in windows:
            assert len(window.start) <= 24 and -100 not in window.start
            texts = tokenizer.convert_ids_to_tokens(
                window.start[window.first :][: len(window.offsets)].astype(int)
            )
            assert " ".join(texts) in " ".join(words)


def test_long_questions_are_cut(tokenizer: Any) -> None:
    assert shortened(tokenizer, ["  a fine day", "fine"], 2) == ["a fine", "fine"]
