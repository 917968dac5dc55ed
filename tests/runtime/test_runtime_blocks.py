"""Blocks of rows: cut where records end, scored each on its own, and together what one run over the file says."""

from __future__ import annotations

import csv
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from pyarrow import parquet  # noqa: E402

from deepsparse import Pipeline, Scorer, blocks, manifest  # noqa: E402
from deepsparse.deployment import open_deployment  # noqa: E402
from deepsparse.remote_files import Folder, find_files  # noqa: E402
from deepsparse.rows import BadRow, TableError  # noqa: E402
from deepsparse.tables import open_table  # noqa: E402
from sparseml.cli import main  # noqa: E402
from support.deployment import WORDS  # noqa: E402


def random_csv(seed: int, records: int) -> bytes:
    """A CSV file with what real ones hold: quoted line ends and quotes, blank lines, and records that are broken."""
    source = random.Random(seed)
    kinds = [
        lambda text: text,
        lambda text: f'"{text}\nand {text}"',
        lambda text: f'"a ""film"", {text}\r\n\n"',
        lambda text: f'"{text}',
        lambda text: f"{text},more",
        lambda text: "",
        lambda text: f'"{text}" happy',
        lambda text: "\xff" + text,
    ]
    lines = ["id,text"]
    for index in range(records):
        text = " ".join(source.choices(WORDS[:11], k=source.randint(1, 6)))
        kind = source.choices(kinds, weights=[8, 3, 2, 1, 1, 1, 1, 1])[0]
        lines.append(f"{index},{kind(text)}" + source.choice(["", "", "\n"]))
    return "\n".join(lines).encode("latin-1")


@pytest.mark.parametrize("seed", range(12))
def test_blocks_of_text_are_whole_records(tmp_path: Path, seed: int):
    path = tmp_path / "rows.csv"
    path.write_bytes(random_csv(seed, 60))
    table = open_table(path)
    expected = list(table.rows(table.start))
    assert [row.after for row in expected] == list(table.ends(table.start))
    assert any(isinstance(row, BadRow) for row in expected)
    for rows in (1, 7, 1000):
        planned = list(blocks.plan(find_files(str(path), blocks.ENDINGS), rows))
        assert len(planned) == -(-len(expected) // rows)
        assert planned[0].begin == table.start.byte
        assert all(one.end == following.begin for one, following in itertools.pairwise(planned))
        assert len({block.name for block in planned}) == len(planned)


@pytest.mark.parametrize("groups", [[10], [3, 3, 3, 1], [1] * 10, [2, 7, 1]])
@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_blocks_of_parquet_have_every_row_once(tmp_path: Path, groups: Sequence[int], rows: int):
    path, at = tmp_path / "rows.parquet", 0
    with parquet.ParquetWriter(path, pyarrow.schema([("text", pyarrow.string())])) as writer:
        for count in groups:
            writer.write_table(pyarrow.table({"text": [str(index) for index in range(at, at + count)]}))
            at += count
    planned = list(blocks.plan(find_files(str(path), blocks.ENDINGS), rows))
    assert all(0 < block.end - block.begin <= rows for block in planned)
    read = [table["text"].to_pylist() for block in planned for table in blocks._parquet_tables(block)]
    assert [int(text) for texts in read for text in texts] == list(range(10))
    if max(groups) <= rows:  # row groups are not cut in vain
        assert {block.begin for block in planned} <= {sum(groups[:index]) for index in range(len(groups))}


def score_all(deployed: Path, pattern: str, output: Path, rows: int, **settings: Any) -> blocks.Outcome:
    files = find_files(pattern, blocks.ENDINGS)
    schema, total = blocks.read_schema(files), blocks.Outcome()
    for block in blocks.plan(files, rows):
        total.add(blocks.score_block(Scorer(deployed, **settings), block, schema, Folder(str(output))))
    return total


def read_all(output: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(output.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def test_all_blocks_together_say_what_predict_says(deployed: Path, tmp_path: Path):
    source, output = tmp_path / "rows.csv", tmp_path / "labelled.csv"
    source.write_bytes(random_csv(3, 80))
    assert main(["predict", str(deployed), "--input", str(source), "--output", str(output)]) == 0
    total = score_all(deployed, str(source), tmp_path / "out", 9)
    found = read_all(tmp_path / "out")
    labelled = [row for row in found if row["prediction_error"] is None]
    with output.open(encoding="utf-8", newline="") as file:
        expected = [{**row, "predicted_score": float(row["predicted_score"])} for row in csv.DictReader(file)]
    assert [{name: row[name] for name in expected[0]} for row in labelled] == expected
    rejected = [json.loads(line) for line in (tmp_path / "labelled.rejected.jsonl").read_text().splitlines()]
    errors = [row["prediction_error"] for row in found if row["prediction_error"] is not None]
    assert [error.rpartition(": ")[2] for error in errors] == [
        row["reason"].rpartition(": ")[2] for row in rejected
    ]
    assert (total.labelled, total.refused) == (len(expected), len(rejected))
    outcomes = [blocks.read_outcome(file) for file in find_files(str(tmp_path / "out"), [".parquet"])]
    assert sum(outcome.labelled for outcome in outcomes) == total.labelled


def test_several_files_of_a_folder_in_the_order_of_their_names(deployed: Path, tmp_path: Path):
    folder = tmp_path / "rows"
    (folder / "year=2").mkdir(parents=True)
    for name, text in {
        "b.csv": "sad",
        "a.csv": "happy",
        "year=2/a.csv": "furious",
        "_c.csv": "x",
        "n.txt": "x",
    }.items():
        (folder / name).write_text(f"text\n{text}\n")
    score_all(deployed, str(folder), tmp_path / "out", 5)
    assert [row["predicted_label"] for row in read_all(tmp_path / "out")] == ["joy", "sadness", "anger"]
    score_all(deployed, f"{folder}/*.csv", tmp_path / "globbed", 5)
    assert [row["text"] for row in read_all(tmp_path / "globbed")] == ["x", "happy", "sad"]


def test_json_keeps_its_types_whatever_comes_later(
    deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocks, "_SAMPLE", 2)
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "happy", "ok": True, "weight": 1, "tags": ["a"]},
        {"id": 2, "text": "sad", "ok": None, "weight": 0.5, "tags": None},
        {"id": 3.5, "text": "sad", "tags": {"b": 1}},
        {"id": 4, "text": "sad", "new": 1},
        {"id": 5, "text": 7},
        {"id": 6, "text": "furious", "tags": "plain"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    score_all(deployed, str(path), tmp_path / "out", 4)
    table = parquet.read_table(tmp_path / "out" / "part-00000-000000.parquet")
    assert {name: str(table.schema.field(name).type) for name in ("id", "text", "ok", "weight", "tags")} == {
        "id": "int64",
        "text": "string",
        "ok": "bool",
        "weight": "double",
        "tags": "string",
    }
    assert table.schema == parquet.read_schema(tmp_path / "out" / "part-00000-000001.parquet")
    found = read_all(tmp_path / "out")
    assert [row["id"] for row in found] == [1, 2, None, 4, 5, 6, None]
    assert [row["tags"] for row in found] == ['["a"]', None, '{"b": 1}', None, None, "plain", None]
    assert [row["predicted_label"] for row in found] == ["joy", "sadness", None, None, None, "anger", None]
    errors = [row["prediction_error"] for row in found]
    assert "line 3: 'id' is 3.5" in errors[2] and "field 'new'" in errors[3]
    assert "a number" in errors[4] and "line 7: not JSON" in errors[6]


def test_parquet_keeps_its_columns_and_a_null_is_no_text(deployed: Path, tmp_path: Path):
    table = pyarrow.table({"text": ["happy", None], "when": pyarrow.array([1, 2], pyarrow.timestamp("us"))})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert score_all(deployed, str(tmp_path / "rows.parquet"), tmp_path / "out", 5).reasons == ["no 'text'"]
    (file,) = (tmp_path / "out").iterdir()
    written = parquet.read_table(file)
    assert written.select(["text", "when"]).equals(table)
    assert written["predicted_label"].to_pylist() == ["joy", None]


def test_files_of_other_columns_and_kinds_are_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "b.csv").write_text("other\nx\n")
    (tmp_path / "c.txt").write_text("x\n")
    (tmp_path / "d.parquet").write_text("x\n")
    with pytest.raises(TableError, match=r"b\.csv has the columns other \(string\), but"):
        blocks.read_schema(find_files(f"{tmp_path}/*.csv", blocks.ENDINGS))
    for name, reason in {"c.txt": "ends in .parquet", "d.parquet": "whole Parquet file"}.items():
        with pytest.raises(TableError, match=reason):
            blocks.read_schema(find_files(str(tmp_path / name), blocks.ENDINGS))
    for wrong in (f"{tmp_path}/*.tsv", f"{tmp_path}/x.csv", "nowhere://x/y.csv"):
        with pytest.raises(TableError):
            find_files(wrong, blocks.ENDINGS)


def test_a_file_system_of_fsspec_is_read_and_written(deployed: Path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/in/rows.csv", b'text\n"happy\nfilm"\nsad\n')
    try:
        files = find_files("memory://in/*.csv", blocks.ENDINGS)
        folder, schema = Folder("memory://out"), blocks.read_schema(files)
        assert folder.names() == set()
        for block in blocks.plan(files, 1):
            blocks.score_block(Scorer(deployed), block, schema, folder)
        assert folder.names() == {"part-00000-000000.parquet", "part-00000-000001.parquet"}
        labels = [
            parquet.read_table(folder.file(name).open())["predicted_label"].to_pylist()
            for name in sorted(folder.names())
        ]
        assert labels == [["joy"], ["sadness"]]
        assert blocks.read_outcome(folder.file("part-00000-000001.parquet")).labelled == 1
    finally:
        memory.store.clear()


def test_a_block_that_fails_leaves_no_file(deployed: Path, tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text\nhappy\nsad\n")
    files = find_files(str(tmp_path / "rows.csv"), blocks.ENDINGS)

    class Failing(Scorer):
        def score(self, *_: Any) -> Any:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        blocks.score_block(
            Failing(deployed),
            next(blocks.plan(files, 5)),
            blocks.read_schema(files),
            Folder(str(tmp_path / "out")),
        )
    assert list((tmp_path / "out").iterdir()) == []


def key(deployed: Path, path: Path, **changed: Any) -> dict[str, Any]:
    model = manifest.digest(manifest.deployment_files(open_deployment(deployed)))
    given = {"model": model, "columns": ["text"], "rows": 5, "settings": {"top_k": (1, 2)}, **changed}
    return manifest.key_of(find_files(str(path), blocks.ENDINGS), *given.values())


def test_the_same_command_goes_on_and_another_is_refused(deployed: Path, tmp_path: Path):
    source, folder = tmp_path / "rows.csv", Folder(str(tmp_path / "out"))
    source.write_text("text\nhappy\n")
    first = key(deployed, source)
    assert manifest.begin(folder, first, overwrite=False) == set()
    (tmp_path / "out" / "part-00000-000003.parquet").touch()
    assert manifest.begin(folder, key(deployed, source), overwrite=False) == {"part-00000-000003.parquet"}
    others = {
        "columns": key(deployed, source, columns=["b"]),
        "block rows": key(deployed, source, rows=6),
        "model": key(deployed, source, model="0"),
        "settings": key(deployed, source, settings={}),
    }
    source.write_text("text\nsad\n\n")
    others["input"] = key(deployed, source)
    for name, other in others.items():
        with pytest.raises(manifest.OutputError, match=f"another {name}: give"):
            manifest.begin(folder, other, overwrite=False)
    assert manifest.begin(folder, others["model"], overwrite=True) == set()
    assert folder.names() == {manifest.MANIFEST}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_files_is_never_touched(tmp_path: Path, overwrite: bool):
    (tmp_path / "part-00000-000000.parquet").write_text("somebody's")
    with pytest.raises(manifest.OutputError, match="no predictions of this command"):
        manifest.begin(Folder(str(tmp_path)), {"input": []}, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000-000000.parquet"]


def test_the_options_of_ray_are_refused_without_it(deployed: Path, capsys: pytest.CaptureFixture[str]):
    words = ["predict", str(deployed), "--input", "rows.csv", "--output", "out.csv", "--actors", "2"]
    assert main(words) == 2
    assert "--actors is of --ray" in capsys.readouterr().err


def test_predictions_do_not_differ_from_the_pipelines(deployed: Path, tmp_path: Path):
    texts = ["happy film", "the film is sad", "furious"]
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "rows.parquet")
    score_all(deployed, str(tmp_path / "rows.parquet"), tmp_path / "out", 2, top_k=2)
    expected = Pipeline.create(model_path=deployed, top_k=2)(texts)
    found = [[row["predicted_label"], row["predicted_label_2"]] for row in read_all(tmp_path / "out")]
    assert found == expected.labels
