"""Accuracy from 8 to 64 rows a class: our guided run, the same without what few rows are given, SetFit and Model2Vec.

    python benchmarks/few_rows.py WORK --setfit ENV/bin/python --model2vec ENV/bin/python --sizes 8 32 --seeds 0 1

WORK keeps an outcome a run: the same command again goes on where it was stopped, and adds what is new to the table.
Every contestant learns the same rows, and is tested on the same ones, which choose nothing. Ours is the exported model,
80 % zeros and int8, in the native engine; SetFit fine-tunes the dense MiniLM by pairs (20 iterations, as in its paper)
and puts logistic regression on top; Model2Vec is distilled from the same MiniLM, with logistic regression on its
embeddings. The opponents have environments of their own (opponents/few_rows_worker.py says what they need).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data import DATASETS, DataSet
from process import DENSE_MODEL, RunFailedError, flags, our_command, timed
from record import keep, table
from resparse.console import run, say
from resparse.files import write_json, write_text
from sparseml.session.models import resolve

DATA = ("trec", "sick", "tweeteval_emotion")
SIZES, SEEDS = (8, 16, 32, 64), (0, 1, 2)
TEST_ROWS = 500
OURS, PLAIN, HEAD, MEAN = "ours", "plain", "head first, first token", "mean, random head"
SETFIT, MODEL2VEC = "setfit", "model2vec"
WITHOUT = "without contrast"
CONTESTANTS = (OURS, WITHOUT, PLAIN, SETFIT, MODEL2VEC, HEAD, MEAN)

# What a guided run is told of the choices for few rows.
_SETTINGS = {
    OURS: (),
    WITHOUT: ("--classifier_pooling", "mean", "--head_first", "--contrastive_steps", "0"),
    PLAIN: ("--classifier_pooling", "cls", "--no_head_first"),
    HEAD: ("--classifier_pooling", "cls", "--head_first", "--contrastive_steps", "0"),
    MEAN: ("--classifier_pooling", "mean", "--no_head_first"),
}
_WORKER = Path(__file__).parent / "opponents" / "few_rows_worker.py"


def test_rows(dataset: DataSet) -> list[dict[str, Any]]:
    """The rows that all are tested on."""
    rows = dataset.splits()["test"]
    return random.Random(0).sample(rows, min(TEST_ROWS, len(rows)))


def draw(dataset: DataSet, size: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """Write `size` training rows a class, and the test rows, which depend on neither size nor seed."""
    rows = dataset.splits()["train"]
    random.Random(f"{seed}").shuffle(rows)
    taken: dict[Any, list[Any]] = {}
    for row in rows:
        own = taken.setdefault(row[dataset.label], [])
        if len(own) < size:
            own.append(row)
    test = test_rows(dataset)
    paths = folder / "train.jsonl", folder / "test.jsonl"
    for path, chosen in zip(paths, ([row for own in taken.values() for row in own], test), strict=True):
        kept = [{name: row[name] for name in (*dataset.columns, dataset.label)} for row in chosen]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    return paths


def ours(
    contestant: str, dataset: DataSet, train: Path, test: Path, seed: int, folder: Path
) -> dict[str, Any]:
    """A guided run of ours; the test rows are its validation rows, by which nothing is chosen."""
    arguments = {
        "train_file": train,
        "validation_file": test,
        "input_column_names": ",".join(dataset.columns),
        "label_column_name": dataset.label,
        "output_dir": folder / "model",
        "seed": seed,
        "eval_strategy": "no",
    }
    command = [*our_command(), *flags(arguments), *_SETTINGS[contestant], "--overwrite_output_dir"]
    cost = timed(command, folder / "log.txt")
    report = json.loads((folder / "model" / "report.json").read_text())
    for path in (folder / "model").glob("*.safetensors"):
        path.unlink()
    return {"accuracy": report["summary"]["answers"]["accuracy"], "seconds": cost.seconds}


def opponent(
    contestant: str, python: str, dataset: DataSet, train: Path, test: Path, seed: int, folder: Path
) -> dict[str, Any]:
    """SetFit or Model2Vec, in its own environment, from the dense MiniLM."""
    words = [contestant, str(resolve(DENSE_MODEL).folder), str(train), str(test), str(folder / "found.json")]
    words += ["--columns", *dataset.columns, "--label", dataset.label, "--seed", str(seed)]
    cost = timed([python, str(_WORKER), *words], folder / "log.txt", {"PYTHONPATH": ""})
    found = json.loads((folder / "found.json").read_text())
    return {"accuracy": found["accuracy"], "seconds": cost.seconds}


def outcome(folder: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """The outcome that `folder` holds, or that is measured now; None where that fails."""
    path = folder / "outcome.json"
    if not path.is_file():
        say(str(folder))
        try:
            found = measure()
        except RunFailedError as error:
            say(f"  {error}")
            return None
        write_json(path, found)
        say(f"  {found['accuracy']:.1%} in {found['seconds']:.0f} s")
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


def measure(asked: argparse.Namespace) -> None:
    """Run what has no outcome yet, contestant by contestant of one draw, so that what is there compares."""
    pythons = {SETFIT: asked.setfit, MODEL2VEC: asked.model2vec}
    for seed in asked.seeds:
        for size in asked.sizes:
            for name in asked.data:
                dataset, folder = DATASETS[name], asked.work.resolve() / name / str(size) / str(seed)
                train, test = draw(dataset, size, seed, folder)
                for contestant in asked.contestants:
                    own = folder / contestant.replace(", ", "-").replace(" ", "-")
                    if contestant in _SETTINGS:
                        outcome(own, partial(ours, contestant, dataset, train, test, seed, own))
                    elif (python := pythons[contestant]) is not None:
                        outcome(own, partial(opponent, contestant, python, dataset, train, test, seed, own))


def collected(work: Path) -> list[dict[str, Any]]:
    """All outcomes so far."""
    return [
        {
            "data": path.parts[-5],
            "size": int(path.parts[-4]),
            "seed": int(path.parts[-3]),
            "contestant": path.parts[-2],
            **json.loads(path.read_text()),
        }
        for path in sorted(work.resolve().glob("*/*/*/*/outcome.json"))
    ]


def tables(outcomes: Sequence[dict[str, Any]]) -> list[str]:
    """Mean accuracy by data set and rows a class, with the number of seeds; and the time of a run."""
    names = [contestant.replace(", ", "-").replace(" ", "-") for contestant in CONTESTANTS]
    names = [name for name in names if any(found["contestant"] == name for found in outcomes)]
    keys = sorted({(found["data"], found["size"]) for found in outcomes})

    def cell(key: tuple[str, int], name: str, field: str) -> str:
        values = [
            found[field]
            for found in outcomes
            if (found["data"], found["size"], found["contestant"]) == (*key, name)
        ]
        if not values:
            return "–"
        mean = statistics.mean(values)
        if field == "seconds":
            return f"{mean:.0f} s"
        spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{100 * mean:.1f}{spread} ({len(values)})"

    def of(field: str) -> str:
        rows = [(key[0], str(key[1]), *(cell(key, name, field) for name in names)) for key in keys]
        return table(("data", "rows a class", *names), rows)

    return [
        "Accuracy in %, mean and standard deviation over draws of the rows (their number):",
        of("accuracy"),
        "Time of the whole command, on a machine with other work; ours with export, check and timing:",
        of("seconds"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Few rows a class, beside SetFit and Model2Vec.")
    parser.add_argument("work", type=Path, help="where runs and outcomes are kept")
    parser.add_argument("--data", nargs="+", choices=DATASETS, default=list(DATA))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, default=[OURS, PLAIN, SETFIT, MODEL2VEC]
    )
    parser.add_argument("--setfit", metavar="PYTHON", help="of an environment that has it")
    parser.add_argument("--model2vec", metavar="PYTHON")
    parser.add_argument("--table", action="store_true", help="only write the table of what is there")
    asked = parser.parse_args()
    if not asked.table:
        measure(asked)
    outcomes = collected(asked.work)
    keep("few_rows", "Few rows a class", tables(outcomes), {"outcomes": outcomes})


if __name__ == "__main__":
    raise SystemExit(run(main))
