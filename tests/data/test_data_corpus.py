"""Plain text read as a stream, from files, folders and data sets, and tokenized into a file that is mapped."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from sparseml.data import DataError, DataOptions, token_file
from sparseml.data.corpus import corpus_files, read_pieces
from sparseml.data.rows import from_arrow
from sparseml.data.text_sources import FileSource, RowsSource, find_texts
from sparseml.data.token_file import TokenFile, tokenize_corpus
from support import corpora, tiny

TEXT = "a film\nthe book\n\n\n  a day  \r\n\nit is\n"
DOCUMENTS = [["a film", "the book"], ["a day"], ["it is"]]


def read(path: Path, **more: Any) -> list[list[str]]:
    """Documents of paragraphs."""
    found: list[list[str]] = [[]]
    for text, ends in read_pieces(path, **more):
        found[-1].append(text)
        if ends:
            found.append([])
    assert found.pop() == []
    return found


@pytest.fixture(autouse=True)
def home(zoo_home: Path) -> Path:
    return zoo_home


@pytest.mark.parametrize("name", ["c.txt", "c.md", "c.TXT", "c.txt.gz", "c.txt.xz", "c.raw.bz2"])
def test_text_files_packed_or_not(tmp_path: Path, name: str) -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".xz": lzma.compress,
        ".bz2": bz2.compress,
    }
    path = tmp_path / name
    path.write_bytes(packers.get(path.suffix, lambda data: data)("\ufeff".encode() + TEXT.encode()))
    assert read(path) == DOCUMENTS
    assert read(path, line_by_line=True) == [["a film"], ["the book"], ["a day"], ["it is"]]


@pytest.mark.parametrize("name", ["c.csv", "c.tsv", "c.jsonl", "c.json", "c.parquet"])
def test_rows_of_tables_are_documents(tmp_path: Path, name: str) -> None:
    rows = Dataset.from_dict({"id": ["1", "2", "3"], "text": ["one, or two\nlines", "", "three"]})
    path = tmp_path / name
    if name == "c.parquet":
        rows.to_parquet(path)
    elif name == "c.json":
        path.write_text(json.dumps(list(rows)))
    elif name == "c.jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        rows.to_csv(path, sep="\t" if name == "c.tsv" else ",", index=False)
    assert read(path) == [["one, or two\nlines"], ["three"]]
    with pytest.raises(DataError, match=r"row 1: no column 'body'. There are: id, text"):
        read(path, column="body")


def test_a_packed_table(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n\n{"text": "b"}\n', mtime=0))
    assert read(path) == [["a"], ["b"]]
    odd = tmp_path / "c.parquet.gz"
    odd.write_bytes(b"")
    with pytest.raises(DataError, match="unpack it first"):
        read(odd)


def _cut(path: Path) -> None:
    path.write_bytes(lzma.compress(b"a film\n" * 5000)[:-40])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("c.txt", b"one\ntwo\n" + b"three \xe9\n", r"c\.txt: 0xe9 somewhere after line \d+ is not UTF-8"),
        ("c.jsonl", b'{"text": "a"}\n{"text": \n', r"c\.jsonl, line 2: not JSON"),
        ("c.jsonl", b'["a"]\n', r"c\.jsonl, line 1: not an object"),
        ("c.csv", b"id,text\n1,a\n2,b,c\n", r"c\.csv, line 3: more fields than the header"),
        ("c.csv", b'text\n"a"b\n', r"c\.csv, line 2"),
        ("c.csv", b"one,two\na,b\n", r"which column is the text\? There are one, two"),
        ("c.parquet", b"nothing", r"c\.parquet: not a whole Parquet file"),
        ("c.txt.xz", b"plain", r"c\.txt\.xz: cannot be read"),
        ("c.txt.gz", gzip.compress(b"a" * 999, mtime=0)[:-9], r"c\.txt\.gz: cannot be read"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=text):
        list(read_pieces(path))


def test_an_archive_that_was_cut_short_is_no_short_corpus(tmp_path: Path) -> None:
    _cut(path := tmp_path / "c.txt.xz")
    with pytest.raises(DataError, match=r"c\.txt\.xz: cannot be read"):
        tokenize_corpus([FileSource(path)], tiny.tokenizer())
    assert not list((tmp_path / "zoo").rglob("*.bin"))


def test_patterns_lists_and_unknown_endings(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt.gz", "c.pdf"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in corpus_files(f"{tmp_path}/a.txt,{tmp_path}/b*", "--train_file")] == [
        "a.txt",
        "b.txt.gz",
    ]
    with pytest.raises(DataError, match=r"--train_file .*c\.pdf: a corpus is text"):
        corpus_files(f"{tmp_path}/c.pdf", "--train_file")


def words_of(file: TokenFile, tokenizer: Any) -> list[str]:
    starts = [0, *file.ends[:-1]]
    return [
        " ".join(tokenizer.convert_ids_to_tokens([int(token) for token in file.tokens[start : end - 1]]))
        for start, end in zip(starts, file.ends, strict=True)
    ]


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
def test_the_token_file_is_the_tokenizers_own_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Whatever the size of what is tokenized at once."""
    monkeypatch.setattr(token_file, "_CHUNK", chunk)
    texts = corpora.documents(50)
    tokenizer = tiny.tokenizer()
    file = tokenize_corpus([FileSource(corpora.write(tmp_path / "c.txt", texts))], tokenizer)
    assert file.tokens.dtype == np.uint16 and isinstance(file.tokens, np.memmap)
    assert words_of(file, tokenizer) == texts
    assert (file.tokens[file.ends - 1] == tokenizer.sep_token_id).all() and len(file) == file.ends[-1]
    first = tokenizer(texts[0], add_special_tokens=False)["input_ids"]
    assert file.tokens[: len(first)].tolist() == first


def test_documents_are_limited_and_long_vocabularies_are_wide(tmp_path: Path) -> None:
    source = FileSource(corpora.write(tmp_path / "c.txt", corpora.documents(9)))
    assert tokenize_corpus([source, source], tiny.tokenizer(), max_documents=11).documents == 11
    wide = tiny.tokenizer([*tiny.WORDS, *(f"w{index}" for index in range(70_000))])
    assert tokenize_corpus([source], wide).tokens.dtype == np.uint32


def test_a_corpus_without_text(tmp_path: Path) -> None:
    empty = tmp_path / "c.txt"
    empty.write_text("\n \n")
    with pytest.raises(DataError, match=r"There is no text in .*c\.txt"):
        tokenize_corpus([FileSource(empty)], tiny.tokenizer())


def test_the_cache_goes_by_content_and_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = token_file._write
    monkeypatch.setattr(
        token_file, "_write", lambda *given: (written.append(str(given[3])), write(*given))[1]
    )
    tokenizer = tiny.tokenizer()
    path = corpora.write(tmp_path / "c.txt", corpora.documents(9))

    def times(source: FileSource, tokenizer: Any = tokenizer, **more: Any) -> int:
        before = len(written)
        tokenize_corpus([source], tokenizer, **more)
        return len(written) - before

    assert times(FileSource(path)) == 1 and times(FileSource(path)) == 0
    moved = path.rename(tmp_path / "d.txt")
    assert times(FileSource(moved)) == 0
    tokenizer("a film", padding="max_length", truncation=True, max_length=8)
    assert times(FileSource(moved)) == 0  # what a tokenizer was last called with is no part of it
    assert times(FileSource(moved), again=True) == 1
    assert times(FileSource(moved, line_by_line=True)) == 1
    assert times(FileSource(moved), max_documents=3) == 1
    assert times(FileSource(moved), corpora.roberta_tokenizer()) == 1
    assert times(FileSource(moved.rename(tmp_path / "d.md"))) == 1
    corpora.write(moved, corpora.documents(9, seed=1))
    assert times(FileSource(moved)) == 1


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "_CHUNK", 50_000)
    text = "\n".join(corpora.documents(1000))

    def peak(times: int) -> int:
        path = tmp_path / f"{times}.txt"
        with path.open("w") as file:
            for _ in range(times):
                file.write(text + "\n")
        tracemalloc.start()
        tokenize_corpus([FileSource(path, line_by_line=True)], tiny.tokenizer())
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # what is loaded once
    small, large = peak(2), peak(12)
    assert large < 1.2 * small + 100_000


def test_a_folder_of_files_by_split(tmp_path: Path) -> None:
    (tmp_path / "texts" / ".git").mkdir(parents=True)
    for name in ("one.txt", "two.jsonl", "valid.txt", "test.txt", ".git/notes.txt", "picture.png"):
        (tmp_path / "texts" / name).write_text("a film")
    name, found, _ = find_texts(DataOptions(dataset_name=str(tmp_path / "texts")))
    assert name == "texts"
    assert {split: [Path(source.name).name for source in sources] for split, sources in found.items()} == {
        "train": ["one.txt", "two.jsonl"],
        "validation": ["valid.txt"],
    }


def test_a_saved_data_set(tmp_path: Path) -> None:
    rows = {name: Dataset.from_dict({"text": [f"{name} a", "", f"{name} b"]}) for name in ("train", "dev")}
    DatasetDict(rows).save_to_disk(tmp_path / "saved")
    _, found, _ = find_texts(DataOptions(dataset_name=str(tmp_path / "saved")))
    assert {split: list(sources[0].pieces()) for split, sources in found.items()} == {
        "train": [("train a", True), ("train b", True)],
        "validation": [("dev a", True), ("dev b", True)],
    }


def test_rows_are_streamed_and_known_by_their_texts() -> None:
    def source(texts: list[str], column: str | None = None) -> RowsSource:
        return RowsSource(
            from_arrow(Dataset.from_dict({"n": range(len(texts)), "body": texts}), "rows"), column
        )

    some = source([f"text {number}" for number in range(2500)])
    assert [text for text, _ in some.pieces()] == [f"text {number}" for number in range(2500)]
    assert some.split.columns._read == {}  # type: ignore[attr-defined]  # nothing was kept
    assert some.size == pytest.approx(9 * 2500, rel=0.2)
    assert source(["a", "b"]).key() == source(["a", "b"]).key() != source(["ab"]).key()
    with pytest.raises(DataError, match=r"rows: no column 'text'. There are: n, body"):
        list(source(["a"], "text").pieces())


def test_no_text_is_named() -> None:
    with pytest.raises(DataError, match="No text: give --train_file"):
        find_texts(DataOptions())
