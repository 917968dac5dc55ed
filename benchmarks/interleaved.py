"""Contestants that are measured in turns: each a process with an environment of its own, run on request.

Bursts of all alternate in random order, so that noise of the machine affects all alike. Ratios are taken within each
round, and their median is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from process import RunFailedError

OPPONENTS = Path(__file__).parent / "opponents"
WARM_UP = 2


@dataclass
class Contestant:
    """An engine with a file, in a process of its own.

    Attributes:
        name: in tables.
        process: runs a burst for every line on its standard input, and prints a line of JSON about it.
        facts: its first message.
        seconds: of each burst: the median of its runs.
        model: a copy of its own, removed at the end.
    """

    name: str
    process: subprocess.Popen[str]
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    model: Path | None = None

    def burst(self) -> None:
        """Run a burst."""
        self.seconds.append(self.ask()["seconds"])

    def ask(self, request: str = "") -> dict[str, Any]:
        """The answer to one line."""
        assert self.process.stdin is not None
        print(request, file=self.process.stdin, flush=True)
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """The next message; a RunFailedError where the process has died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RunFailedError(
                f"{self.name} left with code {self.process.wait()}; see the log in the folder"
            )
        message: dict[str, Any] = json.loads(line)
        return message

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        if self.model is not None:
            self.model.unlink()


def start(
    name: str,
    worker: str,
    words: Sequence[str],
    log: Path,
    *,
    python: str | Path | None = None,
    threads: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Contestant:
    """Start a contestant and wait until it is ready.

    Args:
        name: in tables.
        worker: a program in opponents/.
        words: its arguments.
        log: its other output.
        python: the Python of its environment; ours by default.
        threads: of OpenMP.
        environment: more variables.
    """
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [str(python or sys.executable), str(OPPONENTS / worker), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            env={
                "OMP_NUM_THREADS": str(threads),
                "NM_DISABLE_ANALYTICS": "1",
                # As it is by itself; our engine of that name asks it for exact products, which may be slower.
                "DEEPSPARSE_ONNXRUNTIME": "fast",
                "HF_HUB_OFFLINE": "1",
                "PATH": "/usr/bin:/bin",
                "HOME": str(log.parent),
                # Ours is the project that this process runs.
                **({} if python else {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}),
                **(environment or {}),
            },
        )
    contestant = Contestant(name, process)
    contestant.facts = contestant.receive()
    return contestant


def engine_contestant(
    name: str,
    engine: str,
    file: Path,
    *,
    threads: int,
    batch: int,
    length: int,
    more: Sequence[str] = (),
    python: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Contestant:
    """Start an engine on a model, with a copy of the file: DeepSparse writes to the files that it reads.

    Args:
        name: in tables, and of copy and log.
        engine: its name for engine_worker.py.
        file: the model.
        threads, batch, length: of its runs.
        more: further arguments of engine_worker.py.
        python, environment: as for `start`.
    """
    plain = name.replace(" ", "_").replace("'", "")
    copy = file.with_name(f"{plain}.contestant.onnx")
    shutil.copy(file, copy)
    words = [
        engine,
        str(copy),
        "--threads",
        str(threads),
        "--batch",
        str(batch),
        "--length",
        str(length),
        *more,
    ]
    log = file.with_name(f"{plain}.log")
    contestant = start(
        name, "engine_worker.py", words, log, python=python, threads=threads, environment=environment
    )
    contestant.model = copy
    return contestant


def add_python(parser: argparse.ArgumentParser, flag: str, has: str) -> None:
    """An argument that names the Python of another environment. It is not resolved: that Python is a link."""
    parser.add_argument(
        flag, type=lambda path: Path.cwd() / path, help=f"Python of an environment with {has}"
    )


def measure(contestants: Sequence[Contestant], rounds: int) -> None:
    """Run bursts of all contestants, alternating; then end the processes."""
    order = random.Random(0)
    for _ in range(WARM_UP + rounds):
        for contestant in order.sample(list(contestants), len(contestants)):
            contestant.burst()
    for contestant in contestants:
        contestant.seconds = contestant.seconds[WARM_UP:]
        contestant.end()


def ratio(ours: Contestant, theirs: Contestant) -> float:
    """Median over the rounds of our time by theirs."""
    return statistics.median(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True))
