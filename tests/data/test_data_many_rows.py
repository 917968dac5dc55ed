"""Many rows are on the disk while they are prepared, and what is made of them is what is made of few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.trainer_pt_utils import get_length_grouped_indices

from resparse.files import WriteError
from sparseml.data import DataOptions, column_values, growing_table, load_text_data, rows, tokenize
from sparseml.data import text_classification as classification
from sparseml.data.growing_table import GrowingTable, Texts
from sparseml.data.readers import read_files
from sparseml.session.sampling import LengthGroupedSampler
from support import tiny

MANY = 7


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch, zoo_home: Path) -> None:
    """Eight rows go to the disk, and their tables are written at once."""
    for module in (column_values, rows, classification):
        monkeypatch.setattr(module, "MANY_ROWS", MANY)
    monkeypatch.setattr(column_values, "_MOST_SHARED", 2)
    monkeypatch.setattr(growing_table, "MOST_BYTES", 100)


def written(folder: Path, kind: str, records: list[dict[str, Any]]) -> str:
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
        return str(path)
    return str(tiny.write(path, records))


def prepared(path: str, **more: Any) -> tuple[list[Any], list[Any], list[str]]:
    data = load_text_data(DataOptions(train_file=path, validation_ratio=0.2, **more))
    assert data.train is not None and data.validation is not None
    tokens = tokenize(data.train, data.columns, tiny.tokenizer(), 16)
    return tokens.to_list(), data.validation.to_list(), data.notes


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_many_rows_become_what_few_become(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    records = [{"id": f"row {index}", **row} for index, row in enumerate(tiny.rows(60))]
    records[13]["text"] = " "
    path = written(tmp_path, kind, records)
    both = written(tmp_path, "jsonl", records[:30]) if kind == "csv" else path
    few, few_of_both = prepared(path), prepared(f"{path},{both}")
    request.getfixturevalue("few_are_many")
    assert isinstance(read_files(path, "").columns["text"], Texts)
    assert isinstance(read_files(f"{path},{both}", "").columns["text"], Texts)
    assert (prepared(path), prepared(f"{path},{both}")) == (few, few_of_both)
    assert any("1 row without text left out" in note and "14" in note for note in few[2]) or kind != "parquet"


@pytest.mark.usefixtures("few_are_many")
def test_a_column_that_is_no_text_after_all_comes_back(tmp_path: Path) -> None:
    values: list[Any] = [*map(str, range(40)), None, 7, "x"]
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"a": value} | ({"late": "l"} if value == 7 else {})) + "\n" for value in values)
    )
    columns = read_files(str(path), "").columns
    assert columns["a"] == values
    assert list(columns["late"]) == [None] * 41 + ["l", None]


@pytest.mark.usefixtures("few_are_many")
def test_nothing_is_left_on_the_disk(tmp_path: Path, zoo_home: Path) -> None:
    prepared(written(tmp_path, "csv", tiny.rows(60)))
    assert [path for path in (zoo_home / ".cache").rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("few_are_many")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARSEZOO_HOME", str(tmp_path / "file"))
    with pytest.raises(WriteError, match=r"Could not write to .*file.*SPARSEZOO_HOME names another place"):
        prepared(written(tmp_path, "csv", tiny.rows(60)))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.text(max_size=3) | st.none(), max_size=5), min_size=1, max_size=6), st.data())
def test_texts_are_a_sequence(parts: list[list[str | None]], data: st.DataObject) -> None:
    values = [value for part in parts for value in part]
    texts = Texts(pyarrow.chunked_array(parts, pyarrow.string()))
    chosen = data.draw(st.lists(st.integers(0, len(values) - 1))) if values else []
    for ours, theirs in ((texts, values), (texts.take(chosen), [values[row] for row in chosen])):
        assert list(ours) == ours[:] == theirs and len(ours) == len(theirs)
        assert [ours[place] for place in range(-len(theirs), len(theirs))] == [*theirs, *theirs]
        assert ours[1::2] == theirs[1::2] and ours.column().to_pylist() == theirs
        assert list(ours.filled()) == [value or "" for value in theirs]
        assert list(Texts.joined([ours, theirs])) == [*theirs, *theirs]
        with pytest.raises(IndexError):
            ours[len(theirs)]


def test_an_empty_table_says_so() -> None:
    with GrowingTable() as table, pytest.raises(pyarrow.ArrowInvalid):
        table.finish()


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 99))
def test_order_by_length_is_that_of_transformers(lengths: list[int], batch: int, seed: int) -> None:
    sampler = LengthGroupedSampler(np.asarray(lengths), batch, seed)
    generator = torch.Generator().manual_seed(seed * 1_000_003)
    assert list(sampler) == get_length_grouped_indices(lengths, batch, generator=generator)
