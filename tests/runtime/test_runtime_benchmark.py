"""`deepsparse.benchmark` and `deepsparse.transformers.eval_downstream`: what they print, write and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deepsparse import benchmark
from deepsparse.command_line import ArgumentsError
from deepsparse.engine import Engine
from deepsparse.errors import EngineError, InputError
from deepsparse.workload import Settings, measure, parse_shapes, random_feeds, read_texts
from resparse.errors import UserError

QUICK = ["-t", "0.05", "-w", "0.01"]


def test_the_lines_that_deepsparse_prints(deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = tmp_path / "report.json"
    assert benchmark.main([str(deployed), *QUICK, "-b", "4", "-seq_len", "16", "-x", str(report)]) == 0
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert printed["Original Model Path"] == str(deployed)
    assert (printed["Batch Size"], printed["Sequence Length"], printed["Scenario"]) == ("4", "16", "sync")
    written = json.loads(report.read_text())["benchmark_result"]
    assert float(printed["Throughput (items/sec)"]) == pytest.approx(written["items_per_sec"], abs=1e-3)
    assert written["25%"] <= written["median"] <= written["95%"] <= written["99.9%"]
    assert int(printed["Iterations"]) == written["iterations"]


@pytest.mark.parametrize("scenario", ["async", "elastic", "multistream"])
def test_several_streams(deployed: Path, capsys: pytest.CaptureFixture[str], scenario: str):
    assert benchmark.main([str(deployed), *QUICK, "-s", scenario, "--num_streams", "2"]) == 0
    assert "Throughput" in capsys.readouterr().out


def test_compare_on_texts(deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    texts = tmp_path / "rows.csv"
    texts.write_text("text\nhappy film\n\nsad\n")
    assert benchmark.main([str(deployed), *QUICK, "--compare", "--text", str(texts)]) == 0
    caught = capsys.readouterr()
    rows = {
        line.split()[0]: line.split()[2:] for line in caught.out.splitlines() if re.search(r"\d\.\d\d$", line)
    }
    assert "onnxruntime" in rows
    assert min(float(row[-1]) for row in rows.values()) == 1.0
    # There is no checkpoint beside this export.
    assert "without pytorch" in caught.err and "--pytorch" in caught.err


@pytest.mark.parametrize(
    ("words", "error", "part"),
    [
        (["nowhere"], UserError, "nowhere"),
        (["MODEL", "--comparre"], ArgumentsError, "--compare"),
        (["MODEL", "-t", "0"], ArgumentsError, "above 0"),
        (["MODEL", "-e", "onnxruntim"], EngineError, "onnxruntime"),
        (["MODEL", "-e", "nowhere.py:Engine"], EngineError, "nowhere.py"),
        (["MODEL", "-shapes", "[1,2"], EngineError, "shapes"),
        (["MODEL", "-shapes", "[1,2]", *QUICK], EngineError, "3 inputs"),
        (["MODEL", "--text", "nowhere.csv"], InputError, "nowhere.csv"),
    ],
)
def test_mistakes(deployed: Path, words: list[str], error: type[Exception], part: str):
    with pytest.raises(error, match=re.escape(part)):
        benchmark.main([str(deployed) if word == "MODEL" else word for word in words])


def test_an_engine_of_ones_own(deployed: Path, tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from deepsparse.backends.onnxruntime import OnnxRuntimeBackend\n"
        "class Mine(OnnxRuntimeBackend):\n    name = 'mine'\n"
    )
    assert Engine(deployed, engine_type=f"{path}:Mine").engine_type == "mine"


def test_made_up_arrays_fit(deployed: Path):
    engine = Engine(deployed)
    feeds = random_feeds(engine, Settings("", batch_size=3, sequence_length=7))
    assert {array.shape for array in feeds.values()} == {(3, 7)}
    assert engine.run(feeds)[0].shape == (3, 3)
    assert parse_shapes("[1,2], [3,4]") == [(1, 2), (3, 4)]


def test_lines_of_plain_text(tmp_path: Path):
    path = tmp_path / "texts.txt"
    path.write_text("one\n\n two\n")
    assert read_texts(path) == ["one", " two"]


def test_an_error_in_a_thread_is_raised():
    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        measure(fail, 0.01, 1, callers=2)
    timings = measure(lambda: None, 0.01, 5, callers=3)
    assert timings.items_per_second == pytest.approx(5 * len(timings.seconds) / timings.elapsed)


@pytest.mark.slow
def test_eval_downstream(deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("datasets")
    from sparseml.transformers import eval_downstream

    rows, report = tmp_path / "rows.csv", tmp_path / "report.json"
    rows.write_text("text,label\nhappy film,joy\nvery sad,sadness\nfurious,joy\nsad film,sadness\n")
    assert eval_downstream.main([str(deployed), "-d", str(rows), "-o", str(report)]) == 0
    assert json.loads(report.read_text())["accuracy"] == 0.75
    assert "accuracy: 0.7500" in capsys.readouterr().out
    with pytest.raises(UserError, match="squad"):
        eval_downstream.main([str(deployed), "-d", "squad"])
    rows.write_text("text,label\nhappy film,glee\nsad,sadness\n")
    with pytest.raises(UserError, match="glee"):
        eval_downstream.main([str(deployed), "-d", str(rows)])
