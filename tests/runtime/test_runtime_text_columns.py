"""A model that says which columns it was trained on: files are read by them, and rows of another kind are refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from deepsparse import Pipeline, Scorer
from deepsparse.errors import InputError, ModelError
from deepsparse.rows import TableError
from sparseml.cli import main
from support.deployment import deployment

SINGLE, PAIR = ["body"], ["premise", "claim"]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployment(tmp_path_factory.mktemp("single") / "model", text_columns=SINGLE)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployment(tmp_path_factory.mktemp("pair") / "model", text_columns=PAIR)


def predicted(folder: Path, rows: str, tmp_path: Path, *more: str) -> list[str]:
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text(rows)
    words = ["predict", str(folder), "--input", str(source), "--output", str(output), *more]
    assert main(words) == 0
    with output.open(newline="") as file:
        return [row["predicted_label"] for row in csv.DictReader(file)]


def test_a_file_is_read_by_the_columns_of_the_training(single: Path, deployed: Path, tmp_path: Path) -> None:
    """`text` is a usual name, and yet not what this model reads."""
    rows = "text,body\nhappy,sad\n"
    assert predicted(single, rows, tmp_path) == ["sadness"]
    assert predicted(deployed, rows, tmp_path, "--overwrite") == ["joy"]
    assert predicted(single, rows, tmp_path, "--overwrite", "--input-column-names", "text") == ["joy"]


def test_a_pair_in_its_order(pair: Path, deployed: Path, tmp_path: Path) -> None:
    rows = "claim,premise\nsad film,happy day\n"
    expected = Pipeline.create(model_path=deployed)([["happy day", "sad film"]]).labels
    assert predicted(pair, rows, tmp_path) == expected


def test_other_names_will_do(single: Path, pair: Path, tmp_path: Path) -> None:
    assert predicted(single, "review,id\nsad,1\n", tmp_path) == ["sadness"]
    assert predicted(pair, "sentence1,sentence2\nsad,sad\n", tmp_path, "--overwrite") == ["sadness"]


@pytest.mark.parametrize(
    ("which", "rows", "asked", "said"),
    [
        ("single", "premise,hypothesis\na,b\n", None, "one text (of a column 'body')"),
        ("pair", "text,label\na,b\n", None, "pairs of texts (of columns 'premise' and 'claim')"),
        ("pair", "premise,claim\na,b\n", "claim", "pairs of texts"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    which: str,
    rows: str,
    asked: str | None,
    said: str,
    single: Path,
    pair: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(rows)
    words = ["predict", str({"single": single, "pair": pair}[which]), "--input", str(source)]
    words += ["--output", str(tmp_path / "out.csv"), *(["--input-column-names", asked] if asked else [])]
    assert main(words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def test_rows_of_another_kind_are_refused_by_their_position(single: Path, pair: Path) -> None:
    one, two = Pipeline.create(model_path=single), Pipeline.create(model_path=pair)
    assert one("sad").labels == ["sadness"] and two([["sad", "sad"]]).labels == ["sadness"]
    with pytest.raises(InputError, match=r"sequences\[1\] is a pair of texts: .* one text"):
        one(["sad", ["happy", "film"]])
    # What was meant as a pair, and would be two rows.
    for inputs in (["premise", "claim"], "sad"):
        with pytest.raises(InputError, match=r"sequences\[0\] is one text: .* \[text, text\]"):
            two(inputs)
    with pytest.raises(InputError, match="one text"):
        two.logits(["sad"])


def test_a_block_of_another_kind_is_refused(single: Path) -> None:
    scorer = Scorer(single, threads=1)
    assert scorer({"body": ["sad"], "text": ["happy"]})["predicted_label"] == ["sadness"]
    with pytest.raises(TableError, match="one text"):
        scorer({"premise": ["sad"], "hypothesis": ["happy"]})


def test_server(pair: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from deepsparse.server.app import create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints
    from deepsparse.server.service import Server

    config = parse_config({"endpoints": [{"task": "glue", "model": str(pair), "name": "a"}]}, "test")
    with TestClient(create_app(Server(Endpoints(config), config))) as client:

        def ask(sequences: Any, path: str = "infer") -> Any:
            return client.post(f"/v2/models/a/{path}", json={"sequences": sequences})

        assert client.get("/health").status_code == 200
        assert ask([["sad", "sad"]]).json()["labels"] == ["sadness"]
        for path in ("infer", "explain"):
            answer = ask("sad", path)
            assert answer.status_code == 422 and "pairs of texts" in answer.json()["detail"]


@pytest.mark.parametrize("wrong", ["body", [], [1], ["a", "b", "c"]])
def test_a_configuration_that_makes_no_sense(wrong: Any, tmp_path: Path) -> None:
    folder = deployment(tmp_path / "model", text_columns=wrong)
    with pytest.raises(ModelError, match="text_columns is"):
        Pipeline.create(model_path=folder)
