"""Batch scoring on engines that exist: equal to `sparseml predict`, row for row, and what each engine costs.

Contestants label the same rows, each in a process of its own: `sparseml predict`, `sparseml predict --ray` with two
actors (once with one of them killed midway), Ray Data's `map_batches`, Spark's `mapInPandas`, and joblib, the latter
three by `deepsparse.Scorer`. Two numbers of rows tell the cost of starting from the cost of a row. CPU time is that of
all processes of a contestant, schedulers and virtual machines included: it is much the same on a busy machine.

    python benchmarks/batch_engines.py deployment/ --texts rows.jsonl --work FOLDER

needs `pip install resparse[ray] pyspark pandas joblib psutil`, and Java for Spark. Contestants that are measured
already (in the folder `--work`) are not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil

from record import keep, table
from resparse.console import run, say
from resparse.errors import UserError
from resparse.files import whole_file, write_json

CORES = 2
_BLOCK = 1000
_EVERY = 0.1  # seconds between looks at the processes


def rows_files(folder: Path, texts: list[str], rows: int) -> Path:
    """The rows as CSV and as Parquet, made where they are missing; some texts of the CSV have line ends."""
    import pyarrow
    import pyarrow.parquet

    path = folder / f"rows-{rows}.csv"
    if not path.is_file():
        taken = [
            text if index % 50 else text.replace(" ", "\n", 1)
            for index, text in enumerate(islice(cycle(texts), rows))
        ]
        pyarrow.parquet.write_table(
            pyarrow.table({"id": [str(index) for index in range(rows)], "text": taken}),
            path.with_suffix(".parquet"),
            row_group_size=_BLOCK,
        )
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text"])
            writer.writerows(enumerate(taken))
    return path


def predict(model: Path, source: Path, output: Path, threads: int = 1) -> None:
    """`sparseml predict`, on one thread or several."""
    from deepsparse.predict import main

    main([str(model), "--input", str(source), "--output", f"{output}.csv", "--num-cores", str(threads)])


def predict_all_cores(model: Path, source: Path, output: Path) -> None:
    """`sparseml predict`, one process on all cores."""
    predict(model, source, output, CORES)


def blocks_alone(model: Path, source: Path, output: Path) -> None:
    """What an actor does, without Ray: the blocks one after the other in one process."""
    from deepsparse import Scorer, blocks
    from deepsparse.remote_files import Folder, find_files

    files = find_files(str(source), blocks.ENDINGS)
    scorer, schema = Scorer(model), blocks.read_schema(files)
    for block in blocks.plan(files, _BLOCK):
        blocks.score_block(scorer, block, schema, Folder(str(output)))


def predict_ray(model: Path, source: Path, output: Path) -> None:
    """`sparseml predict --ray`, an actor a core."""
    from deepsparse.predict import main

    files = ["--input", str(source), "--output", str(output)]
    main([str(model), "--ray", *files, "--actors", str(CORES), "--block-rows", str(_BLOCK)])


def ray_data(model: Path, source: Path, output: Path) -> None:
    """Ray Data's `map_batches`."""
    import ray

    from deepsparse import Scorer

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.read_parquet(str(source.with_suffix(".parquet"))).repartition(8).map_batches(
        Scorer,
        fn_constructor_args=[str(model)],
        compute=ray.data.ActorPoolStrategy(size=CORES),
        num_cpus=0.5,  # else nothing is left for the tasks that read
        batch_format="pyarrow",
    ).write_parquet(str(output))
    ray.shutdown()


def spark(model: Path, source: Path, output: Path) -> None:
    """Spark's `mapInPandas`."""
    from pyspark.sql import SparkSession

    from deepsparse import Scorer

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master(f"local[{CORES}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    rows = session.read.parquet(str(source.with_suffix(".parquet"))).repartition(2 * CORES)
    scorer = Scorer(model)
    rows.mapInPandas(scorer, scorer.schema(rows.schema)).write.parquet(str(output))
    session.stop()


def joblib(model: Path, source: Path, output: Path) -> None:
    """joblib's processes."""
    import pyarrow.dataset
    import pyarrow.parquet
    from joblib import Parallel, delayed

    from deepsparse import Scorer

    chunks = pyarrow.dataset.dataset(source.with_suffix(".parquet")).to_batches(batch_size=_BLOCK)
    scored = Parallel(CORES)(delayed(Scorer(model))(chunk) for chunk in chunks)
    output.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_batches(scored), output / "all.parquet")


CONTESTANTS: dict[str, tuple[Callable[[Path, Path, Path], None], int]] = {
    "sparseml predict, 1 thread": (predict, 1),
    f"sparseml predict, {CORES} threads": (predict_all_cores, CORES),
    "blocks without Ray, 1 thread": (blocks_alone, 1),
    f"sparseml predict --ray, {CORES} actors": (predict_ray, CORES),
    f"sparseml predict --ray, {CORES} actors, one killed": (predict_ray, CORES),
    f"Ray Data map_batches, {CORES} actors": (ray_data, CORES),
    f"Spark mapInPandas, local[{CORES}]": (spark, CORES),
    f"joblib, {CORES} processes": (joblib, CORES),
}


def watched(command: list[str], kill_beside: Path | None) -> tuple[float, float, bool]:
    """Run a command; its wall seconds, the CPU seconds of all its processes, and whether an actor was killed.

    Args:
        kill_beside: a folder of results; once three are in it, one of the command's actors is killed.
    """
    seen: dict[int, float] = {}
    killed = False
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            for each in _tree(root):
                try:
                    times = each.cpu_times()
                    seen[each.pid] = times.user + times.system
                    is_actor = each.cmdline()[0].startswith("ray::Actor")
                except (psutil.Error, IndexError):
                    continue
                is_due = kill_beside is not None and len(list(kill_beside.glob("part-*"))) >= 3
                if is_due and is_actor and not killed:
                    os.kill(each.pid, signal.SIGKILL)
                    killed = True
            time.sleep(_EVERY)
        errors = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise UserError(f"{command[-3:]} left with code {process.returncode}: {errors[-2000:]}")
    return time.perf_counter() - started, sum(seen.values()), killed


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def read_labels(output: Path) -> dict[int, tuple[str, float]]:
    """Label and score by id, of a contestant's files."""
    import pyarrow.parquet

    if (path := Path(f"{output}.csv")).is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    else:
        parts = sorted(output.glob("*.parquet"))
        rows = [row for part in parts for row in pyarrow.parquet.ParquetFile(part).read().to_pylist()]
    found = {int(row["id"]): (row["predicted_label"], float(row["predicted_score"])) for row in rows}
    assert len(found) == len(rows), "a row is there twice"
    return found


def measured(given: argparse.Namespace, name: str, texts: list[str], rows: int) -> dict[str, Any]:
    """What a contestant takes for so many rows, and whether it says what `sparseml predict` says."""
    place = f"{list(CONTESTANTS).index(name)}-{rows}"
    kept = given.work / "outcomes" / f"{place}.json"
    output = given.work / f"labelled-{place}"
    rows_files(given.work, texts, rows)
    if not kept.is_file():
        subprocess.run(["rm", "-rf", str(output), f"{output}.csv"], check=True)
        command = [sys.executable, __file__, str(given.model), "--work", str(given.work)]
        command += ["--one", name, "--rows", str(rows)]
        wall, cpu, killed = watched(command, output if "killed" in name else None)
        assert killed == ("killed" in name)
        write_json(kept, {"wall": wall, "cpu": cpu})
    outcome: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    expected = read_labels(given.work / f"labelled-0-{rows}")
    found = read_labels(output)
    assert len(found) == rows == len(expected)
    outcome["different"] = sum(found[index] != expected[index] for index in expected)
    say(f"{name}, {rows:,} rows: {outcome}")
    return outcome


def lines(found: dict[str, list[dict[str, Any]]], few: int, many: int) -> Iterator[list[str]]:
    """The table's lines."""
    base = None
    for name, (less, more) in found.items():
        each = (more["cpu"] - less["cpu"]) / (many - few)
        start = less["cpu"] - few * each
        base = each if base is None else base
        different = less["different"] + more["different"]
        yield [
            name,
            f"{1 / each:,.0f}",
            f"{each / base - 1:+.0%}",
            f"{start:,.1f} s",
            f"{more['wall']:,.0f} s",
            f"{different:,} of {few + many:,}",
        ]


_NOTES = f"""\
Rows of real texts, by a classifier of six layers, int8 and 80 % sparse. "Rows a CPU second" is the slope between the
two numbers of rows, so that starting counts apart: it is what to expect of each core of a cluster. "Beside predict" is
the CPU time of a row beside that of `sparseml predict` on one thread; "blocks without Ray" is what an actor does, so
that the difference to `predict --ray` is Ray's own. "Wall" is of the greater number of rows, on {CORES} cores that
others used, too. "Different" are rows whose label or score is another than `sparseml predict` says. A cluster takes
seconds of processor time to start, and not the same each time: of so few rows, slopes are good to a fifth at best."""


def main() -> int | None:
    """Measure, and keep the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a deployment")
    parser.add_argument("--texts", type=Path, help='JSON Lines with a "text"')
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--rows", type=int, nargs="+", default=[8000, 24000], help="two numbers")
    parser.add_argument("--work", type=Path, required=True, help="rows and outcomes; to resume")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        contestant, _ = CONTESTANTS[given.one]
        place = f"{list(CONTESTANTS).index(given.one)}-{given.rows[0]}"
        contestant(given.model, given.work / f"rows-{given.rows[0]}.csv", given.work / f"labelled-{place}")
        return None
    given.work.mkdir(parents=True, exist_ok=True)
    texts = [json.loads(line)["text"] for line in given.texts.read_text(encoding="utf-8").splitlines()]
    few, many = given.rows
    found = {name: [measured(given, name, texts, rows) for rows in (few, many)] for name in given.contestants}
    header = ["contestant", "rows a CPU second", "beside predict", "CPU to start", "wall", "different"]
    keep(
        "batch_engines",
        "Batch scoring on engines that exist",
        [table(header, lines(found, few, many)), _NOTES],
        {"rows": [few, many], "contestants": found},
    )
    return None


if __name__ == "__main__":
    raise SystemExit(run(main))
