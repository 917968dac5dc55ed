"""`sparseml predict`: every row once, in order, whatever is wrong with some, and whenever it was cut off."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from deepsparse import Pipeline, TextClassificationPipeline, predict
from sparseml.cli import main
from support.deployment import WORDS


def texts(count: int) -> list[str]:
    source = random.Random(1)
    return [" ".join(source.choices(WORDS[:11], k=source.randint(1, 9))) for _ in range(count)]


def written(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*words: object) -> int:
    return main(["predict", *map(str, words)])


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_rows_keep_their_order_and_columns(deployed: Path, tmp_path: Path, kind: str):
    rows = [{"id": f"{index:03}", "text": text} for index, text in enumerate(texts(50))]
    source, output = tmp_path / f"rows.{kind}", tmp_path / f"out.{kind}"
    if kind == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if kind == "tsv" else ","
        source.write_text(
            "".join(f"{row['id']}{mark}{row['text']}\n" for row in [{"id": "id", "text": "text"}, *rows])
        )
    assert run(deployed, "--input", source, "--output", output) == 0
    found = read_lines(output) if kind == "jsonl" else written(output)
    expected = Pipeline.create("glue", deployed)([row["text"] for row in rows])
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    assert [row["predicted_label"] for row in found] == expected.labels
    assert [float(row["predicted_score"]) for row in found] == pytest.approx(expected.scores, abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, output.name])


BAD_CSV = (
    b"id,text\n"
    b"1,happy film\n"
    b"2,\n"
    b'3,"opens and never closes\n'
    b"4,sad film\n"
    b"5,too,many\n"
    b"\n"
    b'6,"on two\nlines, sad"\n'
    b"7,\xff\xfe\n"
    b'8,"happy" film\n'
    b"9,furious"
)


def test_bad_rows_are_set_aside_with_their_line(
    deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_bytes(BAD_CSV)
    assert run(deployed, "--input", source, "--output", output) == 0
    found = written(output)
    assert [(row["id"], row["predicted_label"]) for row in found] == [
        ("1", "joy"),
        ("4", "sadness"),
        ("6", "sadness"),
        ("9", "anger"),
    ]
    assert found[2]["text"] == "on two\nlines, sad"
    refused = read_lines(tmp_path / "out.rejected.jsonl")
    assert [row["line"] for row in refused] == [3, 4, 6, 10, 11]
    reasons = ["empty", "quote", "3 fields", "UTF-8", "quote"]
    assert all(part in row["reason"] for part, row in zip(reasons, refused, strict=True))
    assert "5 rows could not be labelled" in capsys.readouterr().err


def test_a_file_without_any_row_that_can_be_read_is_an_error(
    deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_bytes("text\nein schöner Tag\ngrüße\n".encode("latin-1"))
    assert run(deployed, "--input", source, "--output", output) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "None of the 2 rows" in said and "Line 2: not UTF-8 text" in said and "iconv -f WINDOWS-1252" in said
    )
    assert not output.exists()
    assert [row["line"] for row in read_lines(tmp_path / "out.rejected.jsonl")] == [2, 3]
    source.write_text("text\nsad\n")
    assert run(deployed, "--input", source, "--output", output) == 0
    assert not (tmp_path / "out.rejected.jsonl").exists()


def test_semicolons_stay_semicolons(deployed: Path, tmp_path: Path):
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text("id;text\n1;sad, but a film\n")
    assert run(deployed, "--input", source, "--output", output) == 0
    header, row = output.read_text().splitlines()
    assert header == "id;text;predicted_label;predicted_score" and row.startswith(
        "1;sad, but a film;sadness;"
    )


def test_a_column_that_pandas_named(deployed: Path, tmp_path: Path):
    """Its index, written twice."""
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text(",Unnamed: 0,text\n0,0,sad\n")
    assert run(deployed, "--input", source, "--output", output) == 0
    assert [row["predicted_label"] for row in written(output)] == ["sadness"]
    assert list(written(output)[0])[:3] == ["Unnamed: 0.1", "Unnamed: 0", "text"]


def test_bad_json_lines(deployed: Path, tmp_path: Path):
    source, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    lines = [
        '{"text": "sad"}',
        "{",
        "[]",
        '{"text": 3}',
        '{"other": "x"}',
        '{"text": "happy", "more": 1}',
        '{"text": null}',
    ]
    source.write_text("\n".join(lines))
    assert run(deployed, "--input", source, "--output", output) == 0
    found = read_lines(output)
    assert [row["predicted_label"] for row in found] == ["sadness", "joy"]
    assert found[1]["more"] == 1
    refused = read_lines(tmp_path / "out.rejected.jsonl")
    assert [row["line"] for row in refused] == [2, 3, 4, 5, 7]


def test_tabs_without_quoting(deployed: Path, tmp_path: Path):
    source, output = tmp_path / "rows.tsv", tmp_path / "out.tsv"
    source.write_text('id\tsentence\n1\t"Happy\n2\tsad "film\n3\t"Happy\n4\tsad film"\n')
    assert run(deployed, "--input", source, "--output", output) == 0
    assert [(row["sentence"], row["predicted_label"]) for row in written(output)] == [
        ('"Happy', "joy"),
        ('sad "film', "sadness"),
        ('"Happy', "joy"),
        ('sad film"', "sadness"),
    ]


def test_pairs_and_top_k(deployed: Path, tmp_path: Path):
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text("premise,hypothesis\nhappy,film\n")
    assert run(deployed, "--input", source, "--output", output, "--top_k", 2) == 0
    expected = Pipeline.create("glue", deployed, top_k=2)([["happy", "film"]])
    (row,) = written(output)
    assert [row["predicted_label"], row["predicted_label_2"]] == expected.labels[0]


def test_an_array_of_objects(deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Labels, rejected rows and their numbers are those of the same rows, an object a line."""
    rows: list[Any] = [{"text": text, "id": index} for index, text in enumerate(texts(40))]
    rows[3], rows[8], rows[9] = {"text": ""}, [1], {"text": "happy", "id": "\udc00"}
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "array.json").write_text("\ufeff" + json.dumps(rows, indent=2))
    for source in ("lines.jsonl", "array.json"):
        output = tmp_path / f"{source}.out.jsonl"
        assert run(deployed, "--input", tmp_path / source, "--output", output) == 0
    outputs = [read_lines(tmp_path / f"{source}.out.jsonl") for source in ("lines.jsonl", "array.json")]
    assert outputs[0] == outputs[1] and len(outputs[0]) == 38
    assert outputs[0][7]["id"] == "\ufffd"
    refused = [
        [(row["line"], row["reason"]) for row in read_lines(tmp_path / f"{source}.out.rejected.jsonl")]
        for source in ("lines.jsonl", "array.json")
    ]
    assert refused[0] == refused[1] and [line for line, _ in refused[0]] == [4, 9]


@pytest.mark.parametrize("content", ["[]", "[1, 2]", "[{]", '{"data": [{"paragraphs": 3}]}'])
def test_json_without_rows(deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str):
    (tmp_path / "rows.json").write_text(content)
    assert run(deployed, "--input", tmp_path / "rows.json", "--output", tmp_path / "out.jsonl") == 2
    said = capsys.readouterr().err
    assert said.count("rows.json") == 1 and ("not JSON" in said) == (content == "[{]")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("interrupted_after", [0, 1, 3])
def test_an_interrupted_run_goes_on(
    deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_after: int, kind: str
):
    source, output, whole = (tmp_path / f"{name}.{kind}" for name in ("rows", "out", "whole"))
    rows = texts(500)
    rows[123] = ""
    if kind == "csv":
        source.write_text("text,id\n" + "".join(f"{text},{index}\n" for index, text in enumerate(rows)))
    else:
        source.write_text(json.dumps([{"text": text} for text in rows]))
    monkeypatch.setattr(predict, "WINDOW", 100)
    assert run(deployed, "--input", source, "--output", whole) == 0
    windows = 0
    genuine = TextClassificationPipeline.predict

    def failing(self: TextClassificationPipeline, sequences: object) -> object:
        nonlocal windows
        if windows == interrupted_after:
            raise KeyboardInterrupt
        windows += 1
        return genuine(self, sequences)

    monkeypatch.setattr(TextClassificationPipeline, "predict", failing)
    assert run(deployed, "--input", source, "--output", output) == 130
    assert not output.exists()
    windows = -10
    assert run(deployed, "--input", source, "--output", output) == 0
    assert windows == -10 + 5 - interrupted_after
    assert output.read_bytes() == whole.read_bytes()
    rejected = (tmp_path / "out.rejected.jsonl").read_bytes()
    assert rejected == (tmp_path / "whole.rejected.jsonl").read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_input_begins_anew(deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "sad\n" * 30)
    monkeypatch.setattr(predict, "WINDOW", 10)
    with monkeypatch.context() as patch:
        patch.setattr(predict._Run, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(deployed, "--input", source, "--output", output) == 130
    source.write_text("text\nhappy\n")
    assert run(deployed, "--input", source, "--output", output) == 0
    assert [row["predicted_label"] for row in written(output)] == ["joy"]


@pytest.mark.parametrize(
    ("content", "words", "part"),
    [
        ("a,b\n1,2\n", [], "--input_column_names"),
        ("a,b\n1,2\n", ["--input_column_names", "c"], "'c'"),
        ("text,predicted_label\nx,y\n", [], "predicted_label"),
        ("text,text\nx,y\n", [], "twice"),
        ("text\nx\n", ["--outptu", "x"], "--output"),
    ],
)
def test_mistakes(
    deployed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    words: list[str],
    part: str,
):
    source = tmp_path / "rows.csv"
    source.write_text(content)
    assert run(deployed, "--input", source, "--output", tmp_path / "out.csv", *words) == 2
    assert part in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_an_output_that_exists_is_kept(deployed: Path, tmp_path: Path):
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text("text\nsad\n")
    output.write_text("mine")
    assert run(deployed, "--input", source, "--output", output) == 2
    assert output.read_text() == "mine"
    assert run(deployed, "--input", source, "--output", output, "--overwrite") == 0
    assert run(deployed, "--input", source, "--output", source, "--overwrite") == 2
    assert run(deployed, "--input", source, "--output", tmp_path / "out.jsonl") == 2
