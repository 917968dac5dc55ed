"""More threads than cores, and cores that others use: how much slower is the native engine then?

One text of a model that export_forms.py makes, on 1 to 8 threads a core, in turns within a process: alone; beside a
program that never stops computing; and beside a second process of the engine, which runs the same model on all cores.

    python benchmarks/crowded.py
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse import Engine
from deepsparse.engine import OVERSUBSCRIBE
from deepsparse.hardware import usable_cores
from export_forms import make_model, write_files
from interleaved import WARM_UP
from processors import keep_here
from record import table
from resparse.console import run, say

BAR = 1.2  # the time of more threads than cores by that of as many
CROWDS = (2, 4, 8)  # threads a core
WORKLOADS = (("minilm", 16), ("minilm", 128), ("bert-base", 128))
EXPORTED_LENGTH = 128
BURST_SECONDS = 0.4  # many times what the operating system gives a neighbour at once

_SPIN = "print(flush=True)\nwhile True: pass"
_ENGINE = f"import {Path(__file__).stem} as this; this.run_for_ever({{path!r}}, {{length}})"


def feed_of(length: int) -> dict[str, np.ndarray]:
    """One text of random tokens."""
    ids = np.random.default_rng(0).integers(1000, 2000, (1, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def run_for_ever(path: str, length: int) -> None:
    """What the second process does."""
    engine, feed = Engine(path, engine_type="native"), feed_of(length)
    print(flush=True)
    while True:
        engine.run(feed)


@contextmanager
def beside(program: str | None, folder: Path) -> Iterator[None]:
    """Run a Python program meanwhile, which prints a line when it is ready."""
    if program is None:
        yield
        return
    here = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (folder / "neighbour.log").open("wb") as log:
        neighbour = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": here},
        )
    try:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def in_turns(engines: dict[int, Engine], length: int, rounds: int) -> dict[int, list[float]]:
    """Seconds a run, the mean of a burst, of every engine in every round."""
    feed, order = feed_of(length), random.Random(0)
    seconds: dict[int, list[float]] = {threads: [] for threads in engines}
    for number in range(WARM_UP + rounds):
        for threads in order.sample(list(engines), len(engines)):
            runs, began = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - began) < BURST_SECONDS:
                engines[threads].run(feed)
                runs += 1
            if number >= WARM_UP:
                seconds[threads].append(elapsed / runs)
    return seconds


def measured(model: str, length: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A model and length in all situations."""
    folder = arguments.folder / model
    if not (folder / "portable.onnx").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{model}: writing")
        write_files(make_model(model, folder), folder, EXPORTED_LENGTH)
    path = str(folder / "portable.onnx")
    cores = usable_cores()
    counts = sorted({1, cores, *(cores * crowd for crowd in CROWDS)})
    engines = {count: Engine(path, num_cores=count, engine_type="native") for count in counts}
    situations = {
        "alone": None,
        "beside a busy program": _SPIN,
        "beside a second process": _ENGINE.format(path=path, length=length),
    }
    found = []
    for situation, program in situations.items():
        say(f"{model}, {length} tokens, {situation}")
        with beside(program, folder):
            seconds = in_turns(engines, length, arguments.rounds)
        found.append(
            {
                "model": model,
                "length": length,
                "situation": situation,
                "cores": cores,
                "threads": {
                    count: {
                        "median_ms": 1e3 * statistics.median(times),
                        "by_all_cores": statistics.median(
                            a / b for a, b in zip(times, seconds[cores], strict=True)
                        ),
                    }
                    for count, times in seconds.items()
                },
            }
        )
    return found


def lines_of(found: Sequence[dict[str, Any]]) -> str:
    """Milliseconds, and the time by that of as many threads as cores."""
    counts = list(found[0]["threads"])
    header = ["ms (by as many threads as cores)", *(f"{count} threads" for count in counts)]
    rows = [
        [
            f"{one['model']}, 1 x {one['length']}, {one['situation']}",
            *(
                f"{one['threads'][count]['median_ms']:.2f} ({one['threads'][count]['by_all_cores']:.2f})"
                for count in counts
            ),
        ]
        for one in found
    ]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("runs/export_forms"), help="for models and logs")
    arguments = parser.parse_args()
    os.environ[OVERSUBSCRIBE] = "1"
    os.environ["DEEPSPARSE_CACHE"] = str((arguments.folder / "packed").absolute())
    found = [one for model, length in WORKLOADS for one in measured(model, length, arguments)]
    keep_here(
        "crowded",
        f"More threads than cores, and busy cores (wanted: ≤ {BAR} of as many threads as cores)",
        [lines_of(found)],
        {"found": found},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
