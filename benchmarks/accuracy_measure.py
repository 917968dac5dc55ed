"""Carries out the plan of the accuracy benchmark: what can run, runs; what has finished is kept and not repeated."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accuracy_runs import DENSE, Plan, Run, arguments_of, score
from data import DATASETS
from process import RunFailedError
from resparse.console import say
from resparse.files import write_json
from training_pool import Finished, TrainingPool

Outcome = dict[str, Any]

_MARGIN = 1.2
"""By which a run may be slower than those before."""


def read_outcomes(files: Iterable[Path]) -> list[Outcome]:
    """The outcomes of result files, each run once: a later file's count."""
    found: dict[str, Outcome] = {}
    for path in files:
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["outcomes"]
            found |= {entry["key"]: entry for entry in entries}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFailedError(f"{path} holds no outcomes of this benchmark: {error}") from error
    return list(found.values())


class Measurement:
    """The runs of one call.

    Args:
        plan: what is to run.
        folder: of the runs, each in a folder of its own.
        rows: number of rows by data set and split.
        extra: further flags of every command.
        earlier: outcomes of other machines; these runs are not repeated, but for their models.
        keep: whether all models stay; otherwise those that others need.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        rows: Mapping[str, Mapping[str, int]],
        extra: Sequence[str],
        earlier: Iterable[Outcome] = (),
        keep: bool = False,
    ) -> None:
        self.plan, self.folder, self.rows, self.keep = plan, folder, rows, keep
        self.extra = list(extra)
        self.failed: list[str] = []
        self._done: dict[str, Outcome] = {entry["key"]: entry for entry in earlier}
        self._looked: set[str] = set()
        self._speeds: dict[bool, list[float]] = {True: [], False: []}

    def outcomes(self) -> list[Outcome]:
        """What has finished, in the plan's order; then what other machines measured besides."""
        planned = [run.key for run in self._runs()]
        order = {key: index for index, key in enumerate(planned)}
        return sorted(self._done.values(), key=lambda entry: order.get(entry["key"], len(order)))

    def run(self, jobs: int, environment: Mapping[str, str], deadline: float | None = None) -> None:
        """Run all that is to run, `jobs` at once.

        Args:
            jobs: number of processes.
            environment: variables of theirs.
            deadline: seconds from now. Nothing is started that will not end by then, as far as is known, and what
                still runs then is ended.
        """
        ends = None if deadline is None else time.monotonic() + deadline
        started: dict[str, Run] = {}
        with TrainingPool(jobs, environment) as pool:
            while True:
                while pool.idle and (run := self._next(pool.running, ends)) is not None:
                    started[run.key] = run
                    self._submit(pool, run)
                if not pool.running:
                    return
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    say(f"the deadline has passed: {len(pool.running)} runs are ended")
                    return
                for finished in pool.wait(left):
                    self._take(started[finished.name], finished)

    def _runs(self) -> list[Run]:
        """All runs that can be named by now, and read what has finished of them before."""
        while True:
            scores = {key: entry["validation"] for key, entry in self._done.items()}
            runs = self.plan.runs(scores)
            fresh = [run for run in runs if run.key not in self._looked]
            if not fresh:
                return runs
            for run in fresh:
                self._looked.add(run.key)
                self._read(run)

    def _next(self, running: Sequence[str], ends: float | None) -> Run | None:
        """The first run of the plan that can start now and will end in time."""
        for run in self._runs():
            if run.key in self._done:
                continue
            ready = self._ready(run, running)
            if ready is not None and (ends is None or time.monotonic() + self._estimate(ready) < ends):
                return ready
        return None

    def _ready(self, run: Run, running: Sequence[str]) -> Run | None:
        """The run, or one whose model it needs; None where it has to wait, or cannot be."""
        if run.key in running or run.key in self.failed:
            return None
        for needed in run.needs:
            if needed.key in running or not (self._model(needed) / "model.safetensors").is_file():
                return self._ready(needed, running)
        return run

    def _submit(self, pool: TrainingPool, run: Run) -> None:
        folder = self.folder / run.key
        if folder.exists():
            shutil.rmtree(folder)
        pool.submit(run.key, self._command(run), folder / "log.txt")

    def _take(self, run: Run, finished: Finished) -> None:
        if finished.report is None:
            self.failed.append(run.key)
            say(f"{run.key} failed, see {self.folder / run.key / 'log.txt'}")
            return
        steps = self.plan.steps(run)
        outcome = self._outcome(run, finished.report) | {
            "steps": steps,
            "seconds": round(finished.seconds, 1),
            "machine": finished.machine,
        }
        self._done[run.key] = outcome
        if not self.keep and not (run.start == DENSE and not run.variant) and run.variant != "float":
            self._remove_model(run)
        write_json(
            self.folder / run.key / "outcome.json", {"command": self._command(run), "outcome": outcome}
        )
        if steps:
            self._speeds[run.start == DENSE].append(finished.seconds / steps)
        left = sum(self.plan.steps(other) for other in self._runs() if other.key not in self._done)
        say(f"{run.key}: {100 * outcome['test']:.1f} ({finished.seconds:.0f} s); {left:,} steps named")

    def _outcome(self, run: Run, report: Mapping[str, Any]) -> Outcome:
        from sparseml.metrics import main_metrics

        dataset, metrics, totals = DATASETS[run.dataset], report["metrics"], report["totals"]
        return {
            "key": run.key,
            "dataset": run.dataset,
            "start": run.start,
            "variant": run.variant,
            "epochs": run.cell.epochs,
            "rate": run.cell.rate,
            "seed": run.seed,
            "test": score(dataset, metrics, "predict"),
            "validation": score(dataset, metrics, "eval"),
            "metrics": {
                name: value
                for name, value in main_metrics(metrics).items()
                if name.startswith(("eval_", "predict_"))
            },
            "train_rows": self.rows[run.dataset]["train"],
            "test_rows": self.rows[run.dataset]["test"],
            "sparsity": totals["prunable_sparsity"],
            "quantized": totals["quantized_share"],
            "compressed_bytes": totals["compressed_bytes"],
        }

    def _read(self, run: Run) -> None:
        """Take the outcome of a run that has finished in its folder with the same command."""
        path = self.folder / run.key / "outcome.json"
        if not path.is_file():
            return
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["command"] == self._command(run):
            self._done[run.key] = kept["outcome"]
        elif run.key not in self._done:
            say(f"{run.key}: its command has changed since, it runs again")

    def _command(self, run: Run) -> list[str]:
        return arguments_of(run, self.plan.settings, self.folder, self.extra)

    def _estimate(self, run: Run) -> float:
        """Seconds that a run will take, by those that have finished; 0 where none has."""
        dense = run.start == DENSE
        speeds = self._speeds[dense] or self._speeds[not dense]
        return _MARGIN * self.plan.steps(run) * statistics.median(speeds) if speeds else 0.0

    def _model(self, run: Run) -> Path:
        return self.folder / run.key / "model"

    def _remove_model(self, run: Run) -> None:
        """Remove all but the report."""
        for path in self._model(run).iterdir():
            if path.name != "report.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
