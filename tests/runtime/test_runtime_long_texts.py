"""Deployments that read long texts in windows: pooled logits, settings, and counts wherever texts are answered."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from deepsparse import Pipeline, predict
from deepsparse.errors import EngineError, ModelError
from deepsparse.server.app import create_app
from deepsparse.server.config import parse_config
from deepsparse.server.endpoints import Endpoints
from deepsparse.server.service import Server
from resparse import console
from support.deployment import deployment

LONG = "the film was " * 40 + "furious " + "a film is there " * 30
SHORT = "happy film"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"read": "windows", "stride": 4, "pooling": "mean", "most": 64, "length": 16}
    return deployment(tmp_path_factory.mktemp("long") / "windows", long_texts=settings)


def windows(text: str, room: int, stride: int) -> list[str]:
    words = text.split()
    starts = range(0, max(len(words) - stride, 1), room - stride)
    return [" ".join(words[start : start + room]) for start in starts]


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("engine", ["onnxruntime", "deepsparse"])
def test_a_texts_logits_are_its_windows(folder: Path, pooling: str, engine: str) -> None:
    pipeline = Pipeline.create(model_path=folder, window_pooling=pooling, engine_type=engine)
    assert pipeline.sequence_length == 16
    alone = Pipeline.create(model_path=folder, long_texts="first", sequence_length=16)
    each = alone.logits(windows(LONG, 14, 4))
    expected = each.mean(axis=0) if pooling == "mean" else each.max(axis=0)
    found = pipeline.logits([SHORT, LONG, SHORT])
    np.testing.assert_allclose(found, [alone.logits(SHORT)[0], expected, alone.logits(SHORT)[0]], atol=1e-5)
    assert pipeline.lengths.longer == 1 and pipeline.lengths.unread == 0


def test_what_lies_behind_the_first_window_counts(folder: Path) -> None:
    late = "a " * 40 + "furious furious furious furious"
    assert Pipeline.create(model_path=folder, window_pooling="max")(late).labels == ["anger"]
    pooled, first = (
        Pipeline.create(model_path=folder, long_texts=read, sequence_length=16)
        for read in ("windows", "first")
    )
    anger = pooled.labels.index("anger")
    assert pooled.logits(late)[0, anger] > first.logits(late)[0, anger] + 0.1


def test_settings_in_their_place(folder: Path) -> None:
    pipeline = Pipeline.create(
        model_path=folder, window_stride=0, max_windows=2, window_pooling="max", sequence_length=10
    )
    assert pipeline.sequence_length == 10
    assert pipeline.describe()["long_texts"] == {
        "read": "windows",
        "stride": 0,
        "pooling": "max",
        "most": 2,
        "length": 16,
    }
    pipeline(LONG)
    assert pipeline.lengths.unread == 1
    assert "long_texts" not in Pipeline.create(model_path=folder, long_texts="first").describe()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"long_texts": "all"}, "long_texts is 'all'"),
        ({"window_stride": -1}, "window_stride is -1"),
        ({"window_pooling": "sum"}, "window_pooling is 'sum'"),
        ({"max_windows": 0}, "max_windows is 0"),
    ],
)
def test_settings_that_make_no_sense(folder: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        Pipeline.create(model_path=folder, **settings)


def test_a_damaged_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: long_texts: .*stride"):
        Pipeline.create(
            model_path=deployment(tmp_path / "bad", long_texts={"read": "windows", "stride": "x"})
        )


def test_a_cut_text_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(console, "_printed", set())
    pipeline = Pipeline.create(model_path=deployment(tmp_path / "first"))
    pipeline([SHORT])
    assert "longer" not in capsys.readouterr().err
    pipeline([LONG, SHORT])
    pipeline([LONG])
    assert capsys.readouterr().err.count("longer than 64 tokens") == 1
    assert (pipeline.lengths.longer, pipeline.lengths.unread) == (2, 2)


@pytest.mark.parametrize("read", ["first", "windows"])
def test_files_are_summed_up(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], read: str
) -> None:
    rows = tmp_path / "rows.csv"
    with rows.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], [SHORT], [LONG], [LONG]])
    predict.main(
        [
            str(folder),
            "--input",
            str(rows),
            "--output",
            str(tmp_path / "out.csv"),
            "--long-texts",
            read,
            "--sequence-length",
            "16",
        ]
    )
    expected = "cut there" if read == "first" else "read in windows"
    assert f"2 rows were longer than 16 tokens, and {expected}" in capsys.readouterr().err
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    labels = Pipeline.create(model_path=folder, long_texts=read, sequence_length=16)(
        [SHORT, LONG, LONG]
    ).labels
    assert [row["predicted_label"] for row in found] == labels


def test_a_server_counts_them(folder: Path) -> None:
    parsed = parse_config({"endpoints": [{"task": "glue", "model": str(folder), "name": "mood"}]}, "test")
    with TestClient(create_app(Server(Endpoints(parsed), parsed))) as served:
        assert served.get("/v2/models/mood").json()["long_texts"]["read"] == "windows"
        endless = "a film " * 2000
        answer = served.post("/v2/models/mood/infer", json={"sequences": [SHORT, LONG, endless]}).json()
        assert answer["labels"] == Pipeline.create(model_path=folder)([SHORT, LONG, endless]).labels
        counted = served.get("/metrics").text
    assert 'deepsparse_longer_texts_total{endpoint="mood"} 2.0' in counted
    assert 'deepsparse_unread_texts_total{endpoint="mood"} 1.0' in counted
