"""Training commands in a pool of processes: each imports once, and then carries out one command after the other."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A command that has ended.

    Attributes:
        name: as it was submitted.
        report: the training's; None where it failed, which its log explains.
        machine: where it ran; see `record.machine`.
        seconds: wall time, without the imports.
    """

    name: str
    report: dict[str, Any] | None
    machine: dict[str, Any]
    seconds: float


@dataclass
class _Worker:
    process: Any
    connection: Connection
    name: str | None = None
    began: float = 0.0


class TrainingPool:
    """Runs text classification trainings, up to `jobs` at once; a context manager, which ends what still runs.

    Args:
        jobs: number of processes.
        environment: variables that the processes are to have.
    """

    def __init__(self, jobs: int, environment: Mapping[str, str]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._environment = dict(environment)
        self._workers = [self._start() for _ in range(jobs)]

    def __enter__(self) -> TrainingPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()

    @property
    def idle(self) -> bool:
        """Whether a process is free."""
        return any(worker.name is None for worker in self._workers)

    @property
    def running(self) -> list[str]:
        """Names of the commands at work."""
        return [worker.name for worker in self._workers if worker.name is not None]

    def submit(self, name: str, command: Sequence[str], log: Path) -> None:
        """Start a command in a free process; its output goes to `log`."""
        worker = next(worker for worker in self._workers if worker.name is None)
        log.parent.mkdir(parents=True, exist_ok=True)
        worker.name, worker.began = name, time.monotonic()
        worker.connection.send((list(command), str(log)))

    def wait(self, seconds: float | None) -> list[Finished]:
        """The commands that have ended, at least one unless `seconds` pass before."""
        busy = {worker.connection: worker for worker in self._workers if worker.name is not None}
        ended = []
        for connection in wait(list(busy), seconds):
            worker = busy[connection]  # type: ignore[index]
            assert worker.name is not None
            try:
                report, machine = worker.connection.recv()
            except (EOFError, OSError):  # the process died, for want of memory for instance
                report, machine = None, {}
                worker.connection.close()
                self._workers[self._workers.index(worker)] = self._start()
            ended.append(Finished(worker.name, report, machine, time.monotonic() - worker.began))
            worker.name = None
        return ended

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._environment), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)


def _serve(connection: Connection, environment: Mapping[str, str]) -> None:
    """Carry out commands as they come, until the other end is closed."""
    os.environ.update(environment)  # before the libraries that read it are imported
    while True:
        try:
            command, log = connection.recv()
        except EOFError:
            return
        _redirect(Path(log), command)
        report = _train(command)
        connection.send((report, _machine()))


def _redirect(log: Path, command: Sequence[str]) -> None:
    """Send all output of this process to a log, that of compiled libraries too."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    print("$ sparseml.transformers.text_classification", *command, flush=True)


def _train(command: list[str]) -> dict[str, Any] | None:
    import gc

    import torch

    from sparseml.transformers.text_classification import main

    try:
        return main(command)
    except (Exception, SystemExit):
        traceback.print_exc()
        return None
    finally:
        gc.collect()  # models stay in reference cycles of the Trainer
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _machine() -> dict[str, Any]:
    import torch

    from record import machine

    found = machine()
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
