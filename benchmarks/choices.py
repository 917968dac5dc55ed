"""Which text classifier to choose: accuracy against time, memory, size and training time, all on the same rows.

    python benchmarks/choices.py WORK --data trec --rows 2000 --fasttext ENV/bin/python --setfit ENV/bin/python ...

WORK keeps what is made and an outcome a contestant: the same command again goes on where it was stopped, and a
contestant whose environment is not named is left out. Everything of ours is trained by our commands; the opponents are
made in their own environments (opponents/choices_build.py says what they need). All label the whole test split, which
chooses nothing, from string to label in a process of their own (opponents/choices_worker.py), two threads each. Speeds
are measured last, contestants taking turns on the same texts; `--rounds 0` leaves the earlier ones.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from choices_contestants import CHOICES, ENVIRONMENTS
from choices_trained import Place
from data import DATASETS
from interleaved import Contestant, add_python, start
from process import RunFailedError
from record import keep, table
from resparse.console import run, say
from resparse.files import write_json, write_text

DATA = [name for name, dataset in DATASETS.items() if dataset.metrics == ("accuracy",)]
BATCHES = (1, 16, 64, 256)
WARM_UP = 1


def worker(place: Place, key: str, python: str, folder: Path, texts: Path, threads: int) -> Contestant:
    """The serving process of a contestant, which has labelled all texts."""
    log = place.folder / "logs" / f"{key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    choice = CHOICES[key]
    words = [choice.kind, str(folder), str(texts), "--threads", str(threads)]
    return start(
        choice.title,
        "choices_worker.py",
        words,
        log,
        python=None if choice.environment is None else python,
        threads=threads,
    )


def write_texts(place: Place, name: str, most: int | None = None) -> Path:
    """Test texts, or pairs of them, as a JSON file; with `most`, so many drawn at random, always the same."""
    columns = place.dataset.columns
    texts = [[row[column] for column in columns] for row in place.rows["test"]]
    if most is not None:
        texts = random.Random(0).sample(texts, min(most, len(texts)))
    path = place.folder / f"{name}.json"
    write_text(path, json.dumps([text if len(text) > 1 else text[0] for text in texts]))
    return path


def outcome(place: Place, key: str, python: str) -> dict[str, Any] | None:
    """What a contestant is, without its speed: measured before or now; None where that fails."""
    path = place.folder / "outcomes" / f"{key}.json"
    if not path.is_file():
        say(f"{place.dataset.name}: {CHOICES[key].title}")
        try:
            made = CHOICES[key].make(place, python)
            served = worker(place, key, python, made.folder, write_texts(place, "test"), threads=1)
        except RunFailedError as error:
            say(f"  {error}")
            return None
        served.end()
        truth = [row["label"] for row in place.rows["test"]]
        found = {
            "folder": str(made.folder),
            "accuracy": statistics.mean(map(str.__eq__, served.facts["labels"], truth)),
            "peak_mib": served.facts["peak_mib"],
            "size_mib": size_mib(made.folder),
            "training_seconds": None if math.isnan(made.seconds) else made.seconds,
            "training_rows": made.rows or len(place.rows["train"]),
            "test_rows": len(truth),
        }
        write_json(path, found)
        say(f"  {found['accuracy']:.1%}, {found['peak_mib']:.0f} MiB")
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


def size_mib(folder: Path) -> float:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def speeds(
    workers: Mapping[str, Contestant], batches: Sequence[int], texts: int, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """By contestant and size of batch, medians over the rounds: texts a second, and processor time a text.

    Args:
        workers: the serving processes, by contestant; they take turns in random order.
        batches: sizes to try.
        texts: that a burst labels.
        rounds: that count, after a warm-up.
    """
    order, found = random.Random(0), {(key, batch): [] for key in workers for batch in batches}
    for number in range(WARM_UP + rounds):
        for key, batch in order.sample(list(found), len(found)):
            answer = workers[key].ask(json.dumps({"batch": batch, "texts": texts}))
            if number >= WARM_UP:
                found[key, batch].append(answer)

    def median(key: str, batch: int, name: str) -> float:
        return statistics.median(answer[name] for answer in found[key, batch])

    return {
        key: {
            str(batch): {
                "texts_per_second": texts / median(key, batch, "seconds"),
                "cpu_ms_per_text": 1000 * median(key, batch, "cpu_seconds") / texts,
            }
            for batch in batches
        }
        for key in workers
    }


def measure_speeds(place: Place, served: Mapping[str, tuple[str, Path]], asked: argparse.Namespace) -> None:
    """Time all contestants that are served, by Python and folder, and keep it beside their outcomes."""
    texts = write_texts(place, "timed_texts", asked.speed_texts)
    count = len(json.loads(texts.read_text()))
    workers = {}
    try:
        for key, (python, folder) in served.items():
            workers[key] = worker(place, key, python, folder, texts, asked.threads)
        say(f"{place.dataset.name}: {len(workers)} contestants in turns, {asked.rounds} rounds")
        found = speeds(workers, asked.batches, count, asked.rounds)
    finally:
        for each in workers.values():
            each.end()
    write_json(place.folder / "speed.json", {"texts": count, "rounds": asked.rounds, "contestants": found})


def measure(asked: argparse.Namespace) -> None:
    """Make and score what has no outcome yet, then time all that have one."""
    pythons = {name: getattr(asked, name) for name in ENVIRONMENTS}
    for name in asked.data:
        place = Place(
            (asked.work / name).resolve(), DATASETS[name], asked.rows, bf16=asked.bf16, kept=asked.trained
        )
        place.write_rows()
        served = {}
        for key in asked.contestants:
            python = CHOICES[key].python(pythons)
            if python is None:
                say(f"{CHOICES[key].title} is left out: name its environment, --{CHOICES[key].environment}")
            elif (found := outcome(place, key, python)) is not None:
                served[key] = python, Path(found["folder"])
        if asked.rounds:
            measure_speeds(place, served, asked)


def collected(work: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """All outcomes so far by data set and contestant, in the order of CHOICES, with speeds where they are measured."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in sorted(path.parent for path in work.resolve().glob("*/outcomes")):
        speed = folder / "speed.json"
        measured = json.loads(speed.read_text())["contestants"] if speed.is_file() else {}
        for key in CHOICES:
            path = folder / "outcomes" / f"{key}.json"
            if path.is_file():
                own = json.loads(path.read_text())
                del own["folder"]
                found.setdefault(folder.name, {})[key] = {
                    "title": CHOICES[key].title,
                    **own,
                    "speed": measured.get(key),
                }
    return found


def trained_earlier(work: Path) -> dict[str, dict[str, float]]:
    """By data set, the seconds by the clock of trainings that accuracy.py made, by their names."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted(work.resolve().glob("*/trained/*/model/train_results.json")):
        place, name = path.parents[3].name, path.parents[1]
        if not (name / "cost.json").is_file():
            found.setdefault(place, {})[name.name] = json.loads(path.read_text())["train_runtime"]
    return found


def best_batch(speed: Mapping[str, Mapping[str, float]]) -> str:
    """The size of batch at which most texts are labelled a second."""
    return max(speed, key=lambda batch: speed[batch]["texts_per_second"])


def tables(
    outcomes: Mapping[str, Mapping[str, Mapping[str, Any]]],
    earlier: Mapping[str, Mapping[str, float]],
    threads: int,
) -> list[str]:
    """A table for each data set; `earlier` has the seconds of trainings by accuracy.py, by data set and name."""
    header = ("contestant", "accuracy", "texts/s, one by one", "texts/s, best batch", "CPU ms a text")
    header += ("memory", "on disk", "training", "rows")
    blocks = [
        f"From string to label on {threads} threads. Memory: the process's peak after texts one by one, with one "
        "thread. Best batch: its size in brackets. CPU: the processor's time for a text by itself, all threads. "
        "Training: the processor's time, with every step before it (a teacher, a conversion); – where the model was "
        "trained earlier, by accuracy.py, on all rows."
    ]
    for name, contestants in outcomes.items():
        rows = next(iter(contestants.values()))["test_rows"]
        known = ", ".join(
            f"{training} {seconds / 60:.0f} minutes" for training, seconds in earlier.get(name, {}).items()
        )
        trained = f" Trained earlier, by the clock, on a machine with other work: {known}." if known else ""
        blocks.append(f"## {name}\n\n{rows:,} test rows.{trained}")
        blocks.append(table(header, [line(found) for found in contestants.values()]))
    return blocks


def line(found: Mapping[str, Any]) -> list[str]:
    """One contestant's line of a table."""
    speed, seconds = found["speed"], found["training_seconds"]
    if speed is None:
        times = ["–"] * 3
    else:
        best = best_batch(speed)
        times = [
            f"{speed['1']['texts_per_second']:,.0f}",
            f"{speed[best]['texts_per_second']:,.0f} ({best})",
            f"{speed['1']['cpu_ms_per_text']:.2f}",
        ]
    return [
        found["title"],
        f"{found['accuracy']:.1%}",
        *times,
        f"{found['peak_mib']:,.0f} MiB",
        f"{found['size_mib']:.1f} MiB",
        "–" if seconds is None else f"{seconds:,.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} min",
        f"{found['training_rows']:,}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy against time, for all that a user may choose.")
    parser.add_argument("work", type=Path, help="where models and outcomes are kept")
    parser.add_argument("--data", nargs="+", choices=DATA, default=["trec"])
    parser.add_argument("--rows", type=int, help="of training, drawn at random (default: all)")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, on a processor that has it")
    parser.add_argument(
        "--trained", type=Path, metavar="FOLDER", help="of accuracy.py --keep: take its models, on all rows"
    )
    parser.add_argument("--contestants", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="sizes; 1 is needed")
    parser.add_argument("--speed-texts", type=int, default=256, help="that a burst of the timing labels")
    parser.add_argument("--rounds", type=int, default=5, help="of the timing")
    for name, has in ENVIRONMENTS.items():
        add_python(parser, f"--{name}", has)
    parser.add_argument("--table", action="store_true", help="only write the table of what is there")
    asked = parser.parse_args()
    if not asked.table:
        measure(asked)
    outcomes, earlier = collected(asked.work), trained_earlier(asked.work)
    keep(
        "choices",
        "Which text classifier to choose",
        tables(outcomes, earlier, asked.threads),
        {"outcomes": outcomes, "trained_earlier": earlier},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
