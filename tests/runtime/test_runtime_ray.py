"""`sparseml predict --ray` and Ray Data on a Ray of this machine; skipped where Ray is not installed."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")

from pyarrow import parquet  # noqa: E402

from deepsparse import Scorer  # noqa: E402
from sparseml.cli import main  # noqa: E402
from support.deployment import WORDS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARSEZOO_HOME", str(tmp_path / "zoo"))
    path = tmp_path / "rows.csv"
    texts = [" ".join([WORDS[index % 3], *["film"] * (index % 7)]) for index in range(3000)]
    path.write_text(
        "id,text\n" + "".join(f"{index},{text}\n" for index, text in enumerate(texts)) + "3000,\n"
    )
    return path


def actors() -> list[int]:
    """The processes of this session's actors."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            raylet = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parent = int(Path(f"/proc/{raylet}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if name.startswith(b"ray::Actor") and parent == os.getpid():
            found.append(int(folder.name))
    return found


def run(deployed: Path, rows: Path, output: Path, *words: str) -> int:
    command = ["predict", str(deployed), "--input", str(rows), "--output", str(output), *words]
    return main(command)


def labelled(output: Path) -> list[tuple[str, str | None, float | None]]:
    found = [row for path in sorted(output.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    return [(row["id"], row["predicted_label"], row["predicted_score"]) for row in found]


def test_a_killed_actor_loses_no_row(
    deployed: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(deployed, rows, tmp_path / "one.csv") == 0
    with (tmp_path / "one.csv").open(newline="") as file:
        expected = [
            (row["id"], row["predicted_label"], float(row["predicted_score"])) for row in csv.DictReader(file)
        ]
    output, killed = tmp_path / "out", []

    def kill() -> None:
        while not list(output.glob("part-*")):
            time.sleep(0.01)
        killed.append(actors()[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert run(deployed, rows, output, "--ray", "--actors", "2", "--block-rows", "20") == 0
    killer.join(1)
    assert killed
    assert labelled(output) == [*expected, ("3000", None, None)]
    assert "3,000 rows labelled, in 151 files" in " ".join(capsys.readouterr().err.split())
    done = json.loads((output / "_manifest.json").read_text())["done"]
    assert (done["labelled"], done["refused"], done["files"]) == (3000, 1, 151)


def test_it_goes_on_where_it_stopped_and_another_command_is_refused(
    deployed: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "out"
    words = ("--ray", "--actors", "1", "--block-rows", "1000")
    assert run(deployed, rows, output, *words) == 0
    whole = labelled(output)
    kept, gone = output / "part-00000-000000.parquet", output / "part-00000-000002.parquet"
    gone.unlink()
    before = kept.stat().st_mtime_ns
    assert run(deployed, rows, output, *words) == 0
    assert labelled(output) == whole and kept.stat().st_mtime_ns == before
    assert run(deployed, rows, output, *words[:-1], "500") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2,001 rows are there" in said and "another block rows" in said
    assert run(deployed, rows, output, *words[:-1], "500", "--overwrite") == 0
    assert labelled(output) == whole


@pytest.mark.parametrize("form", ["numpy", "pandas", "pyarrow"])
def test_ray_data_takes_a_scorer_as_it_is(deployed: Path, form: str):
    rows = [{"text": text} for text in ["happy film", "sad", None, "furious"] * 3]
    scored = (
        ray.data.from_items(rows).map_batches(Scorer(deployed), batch_format=form, batch_size=4).take_all()
    )
    assert [row["predicted_label"] for row in scored] == ["joy", "sadness", None, "anger"] * 3
    assert [row["prediction_error"] for row in scored] == [None, None, "no 'text'", None] * 3


def test_ray_data_makes_actors_of_a_scorers_class(deployed: Path):
    rows = [{"text": text} for text in ["happy film", "sad"] * 4]
    scored = ray.data.from_items(rows).map_batches(
        Scorer,
        fn_constructor_args=[str(deployed)],
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_format="pyarrow",
    )
    assert [row["predicted_label"] for row in scored.take_all()] == ["joy", "sadness"] * 4
