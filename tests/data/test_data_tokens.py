"""Data for token classification: column files, lists in CSV and JSON, schemes, declared tags, mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from sparseml.data import DataOptions
from sparseml.data.readers import read_file
from sparseml.data.rows import DataError
from sparseml.data.token_classification import load_tokens
from support import tagged
from support.child import run_json
from support.hub import LoopbackHub
from support.hub_data import convert

SOURCE = str(Path(__file__).resolve().parents[2] / "src")

IOB1 = """-DOCSTART- -X- -X- O

Ann NNP I-NP I-PER
Lee NNP I-NP I-PER
Bob NNP I-NP B-PER
left VBD I-VP O
. . O O

Rome NNP I-NP I-LOC
"""
IOB2 = [["B-PER", "I-PER", "B-PER", "O", "O"], ["B-LOC"]]
WORDS = [["Ann", "Lee", "Bob", "left", "."], ["Rome"]]


def load(file: Path, **more: Any) -> Any:
    return load_tokens(DataOptions(train_file=str(file), validation_file=str(file)), **more)


def tags(data: Any) -> list[list[str]]:
    return [[data.labels.names[index] for index in row] for row in data.train["labels"]]


def test_conll_2003(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(IOB1)
    data = load(file)
    assert list(data.train["tokens"]) == WORDS and tags(data) == IOB2
    assert data.labels.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER") and data.scheme == "IOB2"
    assert data.train["text"][0] == "Ann Lee Bob left ." and any("IOB1" in note for note in data.notes)
    kept = load(file, tagging="keep")
    assert tags(kept)[0] == ["I-PER", "I-PER", "B-PER", "O", "O"] and kept.scheme == "IOB1"
    chunks = load(file, label="chunk_tags")
    assert tags(chunks)[0] == ["B-NP", "I-NP", "I-NP", "B-VP", "O"]
    words = load(file, label="pos_tags")
    assert words.scheme == "plain" and tags(words)[1] == ["NNP"]


@pytest.mark.parametrize("mark", ["\t", " ", "   "])
@pytest.mark.parametrize("ending", ["conll", "bio", "iob2", "txt"])
def test_every_ending_and_mark(tmp_path: Path, mark: str, ending: str) -> None:
    rows = tagged.rows(5)
    file = tmp_path / f"a.{ending}"
    file.write_text("# a comment\n\n" + tagged.conll(rows, mark).replace("\n\n", "\n \n\n") + "\n\n\n")
    data = load(file)
    assert list(data.train["tokens"]) == [words for words, _ in rows] and tags(data) == [
        row for _, row in rows
    ]


def test_hashes_windows_line_ends_and_words_with_blanks(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_bytes(b"# id = 1\r\n#\tO\r\nNew York\tB-LOC\r\n\r\nx\tO\r\n")
    split = read_file(file)
    assert list(split.columns["tokens"]) == [["#", "New York"], ["x"]]
    assert split.places.describe([0, 1]) == f"{file}, lines 2, 5"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a O\nb\n", "line 2: 1 column separated by blanks, and 2"),
        ("just\nwords\n", "line 1: one column"),
        ("a\tO\nb\t\n", "line 2: a column is empty"),
        ("-DOCSTART- O\n\n", "no words"),
    ],
)
def test_damaged_column_files_are_told(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "a.conll"
    file.write_text(content)
    with pytest.raises(DataError, match=says):
        read_file(file)


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": WORDS[0], "ner_tags": IOB2[0]},
        {"words": " ".join(WORDS[0]), "tags": " ".join(IOB2[0])},
        {"sentence": json.dumps(WORDS[0]), "labels": str(IOB2[0])},
    ],
)
def test_lists_as_json_python_and_text(tmp_path: Path, row: dict[str, Any]) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(row) + "\n")
    data = load(file)
    assert list(data.train["tokens"]) == WORDS[:1] and tags(data) == IOB2[:1]


def test_declared_tags_keep_their_ids(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    rows = datasets.Dataset.from_dict(
        {"tokens": WORDS, "ner_tags": [[names.index(tag) for tag in row] for row in IOB2]}, features=features
    )
    file = tmp_path / "a.parquet"
    rows.to_parquet(file)
    data = load(file)
    assert data.labels.names == tuple(names) and tags(data) == IOB2


def test_bioes_is_written_as_iob2(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"tokens": list("abcd"), "tags": ["S-X", "B-X", "E-X", "O"]}))
    assert tags(load(file)) == [["B-X", "B-X", "I-X", "O"]]
    kept = load(file, tagging="keep")
    assert tags(kept) == [["S-X", "B-X", "E-X", "O"]] and kept.labels.names == ("O", "B-X", "E-X", "S-X")


def test_mistakes_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    for row, says in (
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 words and 1 tags"),
        ({"tokens": [["a"]], "tags": ["O"]}, "holds no words"),
        ({"tokens": ["a"], "tags": None}, "without tags"),
        ({"tokens": [" "], "tags": ["O"]}, "no row has words"),
        ({"tokens": ["a"], "other": ["O"]}, "--label_column_name"),
    ):
        file.write_text(json.dumps(row))
        with pytest.raises(DataError, match=says):
            load(file)


_CHILD = """
import json, sys
from sparseml.data import DataError, DataOptions
from sparseml.data.token_classification import load_tokens

found = {}
for name, options in json.load(sys.stdin).items():
    try:
        data = load_tokens(DataOptions(**options))
        found[name] = {"names": data.labels.names, "notes": data.notes, "rows": data.rows, **data.train[0]}
    except DataError as error:
        found[name] = {"error": str(error)}
print(json.dumps(found))
"""


def test_conll2003_of_the_hub(tmp_path: Path) -> None:
    """With the public schema: a script, of which the Hub keeps a conversion to Parquet."""
    datasets = pytest.importorskip("datasets")
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    listed, text = datasets.List, datasets.Value("string")
    features = datasets.Features(
        {
            "id": text,
            "tokens": listed(text),
            "pos_tags": listed(datasets.ClassLabel(names=["NNP", "VBD", "."])),
            "chunk_tags": listed(datasets.ClassLabel(names=["O", "B-NP", "I-NP", "B-VP"])),
            "ner_tags": listed(datasets.ClassLabel(names=names)),
        }
    )
    rows = {
        "id": ["0", "1"],
        "tokens": WORDS,
        "pos_tags": [[0, 0, 0, 1, 2], [0]],
        "chunk_tags": [[1, 2, 2, 3, 0], [1]],
        "ner_tags": [[names.index(tag) for tag in row] for row in IOB2],
    }
    buffer = io.BytesIO()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(buffer)
    cases = {"old name": {"dataset_name": "conll2003"}, "own": {"dataset_name": "eriktks/conll2003"}}
    with LoopbackHub() as hub:
        hub.add("eriktks/conll2003", {"conll2003.py": b"raise SystemExit('never run')"}, "datasets")
        splits = ("train", "validation", "test")
        convert(hub, "eriktks/conll2003", {f"conll2003/{split}": buffer.getvalue() for split in splits})
        environment = {**hub.environment(tmp_path), "PYTHONPATH": SOURCE}
        found = run_json(_CHILD, cases, environment, tmp_path)
    for case in cases:
        assert found[case]["names"] == names and found[case]["rows"] == {"train": 2, "validation": 2}
        assert found[case]["tokens"] == WORDS[0] and found[case]["labels"] == rows["ner_tags"][0]
    assert any("eriktks/conll2003 on the Hub" in note for note in found["old name"]["notes"])
