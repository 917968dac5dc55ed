"""Local files: what is read, and that every kind of damage is one clear error with its place."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resparse.errors import UserError
from resparse.json_text import whole_characters
from sparseml.data.readers import read_delimited, read_file, read_files, read_json
from sparseml.data.rows import DataError

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def columns_of(path: Path) -> dict[str, list[object]]:
    split = read_file(path)
    return {name: list(split.columns[name]) for name in split.columns}


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_file(path)
    assert isinstance(caught.value, UserError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_header_with_the_index_of_pandas_twice(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text(",Unnamed: 0,label,text\n0,0,a,b\n")
    assert list(read_file(path).columns) == ["Unnamed: 0.1", "Unnamed: 0", "label", "text"]


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_csv_that_python_writes_reads_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    path = put(tmp_path_factory.mktemp("csv"), "a.csv", buffer.getvalue())
    assert columns_of(path) == {"text": [row[0] for row in rows], "label": [row[1] for row in rows]}


@given(rows=st.lists(st.fixed_dictionaries({"text": CELLS, "label": st.integers()}), min_size=1, max_size=8))
@pytest.mark.parametrize("lines", [True, False])
def test_json_reads_back(
    lines: bool, rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
):
    # ensure_ascii=False leaves U+2028 in the text, which str.splitlines would take for an end of line.
    encoded = [json.dumps(row, ensure_ascii=False) for row in rows]
    content = "\n".join(encoded) if lines else f"[{', '.join(encoded)}]"
    path = put(tmp_path_factory.mktemp("json"), "a.json", content)
    assert columns_of(path) == {name: [row[name] for row in rows] for name in ("text", "label")}


def test_values_of_csv_stay_as_they_stand_there(tmp_path: Path):
    path = put(tmp_path, "a.csv", "text,label\nNA,007\n1.50,null\n")
    assert columns_of(path) == {"text": ["NA", "1.50"], "label": ["007", "null"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolon.csv", "text;label\na;1\n"),
        ("tab.csv", "text\tlabel\na\t1\n"),
        ("windows.csv", "text,label\r\na,1\r\n"),
        ("old-mac.csv", "text,label\ra,1\r"),
        ("mark.csv", b"\xef\xbb\xbftext,label\na,1\n"),
        ("blank-lines.csv", "\ntext,label\n\na,1\n\n"),
        ("a.tsv", "text\tlabel\na\t1\n"),
        ("UPPER.CSV", "text,label\na,1\n"),
    ],
)
def test_forms_of_delimited_files(tmp_path: Path, name: str, content: str | bytes):
    assert columns_of(put(tmp_path, name, content)) == {"text": ["a"], "label": ["1"]}


def test_tsv_with_quotes_that_do_not_pair_is_read_without_quoting(tmp_path: Path):
    path = put(tmp_path, "a.tsv", 'text\tlabel\n"Well\t1\nsaid "he"\t0\n')
    assert columns_of(path)["text"] == ['"Well', 'said "he"']


def test_tsv_whose_quotes_would_make_one_row_of_several_is_read_without_quoting(tmp_path: Path):
    path = put(tmp_path, "a.tsv", 'label\ttext\n1\t"Well\n0\tno\n1\tsaid he"\n')
    assert columns_of(path) == {"label": ["1", "0", "1"], "text": ['"Well', "no", 'said he"']}


def test_tsv_with_line_breaks_in_quotes(tmp_path: Path):
    path = put(tmp_path, "a.tsv", 'label\ttext\n1\t"Well\nsaid he"\n')
    assert columns_of(path) == {"label": ["1"], "text": ["Well\nsaid he"]}


def test_index_column_of_pandas_gets_a_name(tmp_path: Path):
    assert list(columns_of(put(tmp_path, "a.csv", ",text,label\n0,a,1\n"))) == ["Unnamed: 0", "text", "label"]


def test_long_field(tmp_path: Path):
    before = csv.field_size_limit()
    path = put(tmp_path, "a.csv", f"text,label\n{'x' * 200_000},1\n")
    assert len(str(columns_of(path)["text"][0])) == 200_000
    assert csv.field_size_limit() == before


def test_line_numbers_count_lines_within_quotes(tmp_path: Path):
    path = put(tmp_path, "a.csv", 'text,label\n"two\nlines",1\nb,2\n')
    assert read_delimited(path).places.describe([0, 1]) == f"{path}, lines 2, 4"


def test_json_lines_count_blank_lines_and_lacking_keys_are_none(tmp_path: Path):
    path = put(tmp_path, "a.jsonl", '{"text": "a"}\n\n{"text": "b", "label": 1}\n')
    split = read_json(path)
    assert split.columns["label"] == [None, 1]
    assert split.places.describe([1]) == f"{path}, line 3"


def test_parquet_keeps_declared_class_names(tmp_path: Path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    split = read_file(tmp_path / "a.parquet")
    assert split.class_names == {"label": ("no", "yes")}
    assert list(split.columns["label"]) == [1, 0]


def test_several_files_and_patterns(tmp_path: Path):
    for name, text in (("p1.csv", "a"), ("p2.csv", "b")):
        put(tmp_path, name, f"text,label\n{text},1\n")
    third = put(tmp_path, "c.jsonl", '{"label": 2, "text": "c"}')
    split = read_files(f"{tmp_path}/p*.csv, {third}", "--train_file")
    assert split.columns["text"] == ["a", "b", "c"]
    assert split.places.describe([0, 2]) == f"{tmp_path}/p1.csv, line 2; {third}, line 1"


def test_several_files_need_the_same_columns(tmp_path: Path):
    first, second = put(tmp_path, "a.csv", "text,label\na,1\n"), put(tmp_path, "b.csv", "txt,label\nb,1\n")
    with pytest.raises(DataError, match="same columns"):
        read_files(f"{first},{second}", "--train_file")


def test_missing_file_names_near_ones(tmp_path: Path):
    put(tmp_path, "emotion-train.csv", "text,label\na,1\n")
    with pytest.raises(DataError) as caught:
        read_files(str(tmp_path / "emotions-train.csv"), "--train_file")
    assert "--train_file" in str(caught.value)
    assert f"Did you mean {tmp_path / 'emotion-train.csv'}?" in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("none/a.csv", "no folder"), ("*.csv", "no file matches"), (".", "this is a folder")],
)
def test_nothing_there(tmp_path: Path, pattern: str, said: str):
    with pytest.raises(DataError, match=said):
        read_files(str(tmp_path / pattern), "--train_file")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize("content", ["", "  \n\n"])
def test_empty_file(tmp_path: Path, suffix: str, content: str):
    said = error_of(put(tmp_path, f"a.{suffix}", content))
    assert "empty" in said or "not a whole Parquet file" in said


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text,label\n"), ("a.json", "[]")])
def test_file_without_rows(tmp_path: Path, name: str, content: str):
    assert "no rows" in error_of(put(tmp_path, name, content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,label\na,1\nb, too,0\n", "line 3: 3 fields, but the header has 2 (text, label)"),
        ("text,label\na,1\nb\n", "line 3: 1 field, but the header has 2"),
        ('text,label\na,1\n"b,0\nc,1\n', "line 3: a double quote opens here and never closes"),
        ('text,label\n"a" b,1\n', "line 2: text follows a closing double quote"),
        ("text,text\na,1\n", "line 1: the header names 'text' more than once"),
    ],
)
def test_ragged_csv(tmp_path: Path, content: str, said: str):
    assert said in error_of(put(tmp_path, "a.csv", content))


def test_byte_that_is_not_utf8(tmp_path: Path):
    path = put(tmp_path, "a.csv", b"text,label\nfine,1\ncaf" + b"\xe9,0\n")
    said = error_of(path)
    assert "line 3, byte 4 of the line: 0xe9 is not UTF-8" in said
    assert f"iconv -f WINDOWS-1252 -t UTF-8 '{path}'" in said


def test_byte_that_is_not_utf8_behind_a_byte_order_mark(tmp_path: Path):
    path = put(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\n\xff,0\n")
    assert "line 2, byte 1 of the line: 0xff" in error_of(path)


def test_utf16(tmp_path: Path):
    assert "iconv -f UTF-16" in error_of(put(tmp_path, "a.csv", "text,label\na,1\n".encode("utf-16")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}\n{"text": "b"\n', "line 2, column"),
        ('{"text": "a"}\n["b"]\n', 'line 2: ["b"] is not an object'),
        ('[{"text": "a"}, 3]', "item 2: 3 is not an object"),
        ('[{"text": "a"},\n {"text": }]', "line 2, column 11"),
        ('{\n "text": ["a"]\n}', "one JSON object"),
        ("text,label\n", "line 1, column 1: not JSON"),
    ],
)
def test_damaged_json(tmp_path: Path, content: str, said: str):
    assert said in error_of(put(tmp_path, "a.json", content))


def test_parquet_cut_short(tmp_path: Path):
    from datasets import Dataset

    path = tmp_path / "a.parquet"
    Dataset.from_dict({"text": ["a"] * 100}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "not a whole Parquet file" in error_of(path)


def test_unknown_ending(tmp_path: Path):
    assert "'.xlsx' is not one of .csv, .tsv" in error_of(put(tmp_path, "a.xlsx", "x"))


@pytest.mark.parametrize(("name", "template"), [("a.jsonl", "{0}\n{1}\n"), ("a.json", "[{0}, {1}]")])
def test_half_of_a_surrogate_pair_becomes_the_replacement_character(
    tmp_path: Path, name: str, template: str
) -> None:
    """JSON can write what no encoding has, such as an emoji that was cut in two."""
    rows = (r'{"text": "\ud83d\ude00 whole", "label": 1}', r'{"text": ["half \ud83d"], "label": 0}')
    path = tmp_path / name
    path.write_text(template.format(*rows), encoding="utf-8")
    split = read_file(path)
    assert list(split.columns["text"]) == ["\N{GRINNING FACE} whole", ["half \ufffd"]]
    (note,) = split.notes
    assert note.startswith("1 row with half") and "2" in note.rpartition("(")[2]


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_values_with_whole_characters_stay_themselves(value: Any) -> None:
    assert whole_characters(value) is value


@given(st.text(st.characters(codec=None, categories=("Cs", "Lu")), min_size=1))
def test_a_whole_text_has_an_encoding(text: str) -> None:
    whole = whole_characters({"x": [text]})["x"][0]
    assert whole.encode().decode() == whole and len(whole) == len(text)
