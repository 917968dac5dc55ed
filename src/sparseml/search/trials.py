"""Trials of a search: a folder each, whose outcome file says that it is over; and the process that carries one out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from resparse.files import write_json
from sparseml.search.space import Point

State = Literal["done", "failed", "pruned"]
DONE: Final = "done"
FAILED: Final = "failed"
PRUNED: Final = "pruned"

SETTING, OUTCOME, LOG, MODEL = "trial.json", "outcome.json", "log.txt", "model"
EVALUATIONS: Final = "evaluations.jsonl"
"""Written by the trial's process (`trial.py`): a line an evaluation, with the share of the training that is done."""

_REPORT: Final = "report.json"
_POLL_SECONDS: Final = 0.2
_LAST_WORDS: Final = 300


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        metrics: of the validation rows, by name.
        seconds: of all its processes.
        error: the last line that a failed one has printed.
        code: its exit code.
    """

    state: State
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    code: int = 0


@dataclass(frozen=True)
class Trial:
    """A setting and its folder; `outcome` is None while it is not over."""

    number: int
    folder: Path
    point: Point
    outcome: Outcome | None = None

    @property
    def model(self) -> Path:
        """The output folder of its training."""
        return self.folder / MODEL

    def value(self, metric: str) -> float | None:
        """A metric; None where it has none."""
        return self.outcome.metrics.get(metric) if self.outcome is not None else None


def known(folder: Path) -> list[Trial]:
    """The trials that a search's folder holds, in their order; of each that was begun, outcome or not."""
    trials = []
    for path in sorted(folder.glob(f"*/{SETTING}")):
        point = _read(path)
        if point is not None:
            outcome = _read(path.with_name(OUTCOME))
            trials.append(
                Trial(int(path.parent.name), path.parent, point, Outcome(**outcome) if outcome else None)
            )
    return trials


def begin(folder: Path, number: int, point: Point) -> Trial:
    """A new trial, with its setting written down."""
    trial = Trial(number, folder / f"{number:03d}", point)
    trial.folder.mkdir(parents=True, exist_ok=True)
    write_json(trial.folder / SETTING, point)
    return trial


def end(trial: Trial, outcome: Outcome) -> Trial:
    """The trial with its outcome, which is written down."""
    write_json(trial.folder / OUTCOME, asdict(outcome))
    return Trial(trial.number, trial.folder, trial.point, outcome)


def carry_out(
    trial: Trial, task: str, words: Sequence[str], hopeless: Callable[[float, Mapping[str, float]], bool]
) -> Outcome:
    """Train in a process of its own, so that nothing of one trial reaches the next; it goes on where it was stopped.

    Args:
        task: a name of `sparseml.tasks`.
        words: of the training command, --output_dir left out.
        hopeless: of every evaluation, given the share of the training and the metrics: whether to end the trial.
    """
    if (trial.model / _REPORT).is_file():  # the search was killed right after it
        return _collect(trial, 0.0)
    command = [sys.executable, "-m", "sparseml.search.trial", task, str(trial.folder), *words]
    began, pruned, read = time.monotonic(), False, 0
    with (trial.folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [*command, "--output_dir", str(trial.model)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            while (code := process.poll()) is None:
                time.sleep(_POLL_SECONDS)
                evaluations = evaluations_of(trial)
                for entry in [] if pruned else evaluations[read:]:
                    if hopeless(entry["share"], entry["metrics"]):
                        process.terminate()
                        pruned = True
                        break
                read = len(evaluations)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    seconds = time.monotonic() - began
    if pruned and code != 0:
        return Outcome(PRUNED, _last_metrics(trial), seconds)
    if code != 0:
        return Outcome(FAILED, seconds=seconds, error=_last_line(trial.folder / LOG), code=code)
    return _collect(trial, seconds)


def evaluations_of(trial: Trial) -> list[dict[str, Any]]:
    """The evaluations that its process has written so far: `share` of the training, `metrics` by name."""
    try:
        text = (trial.folder / EVALUATIONS).read_text(encoding="utf-8")
    except OSError:
        return []
    # The last line may be half written.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def drop_weights(trial: Trial) -> None:
    """Remove what takes room, the weights and checkpoints; report, log and outcome stay."""
    for path in (*trial.model.glob("*.safetensors"), *trial.model.glob("*.bin")):
        path.unlink(missing_ok=True)
    drop_checkpoints(trial.model)


def drop_checkpoints(model: Path) -> None:
    """Remove the checkpoints of a finished training."""
    for path in model.glob("checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)


def _collect(trial: Trial, seconds: float) -> Outcome:
    report = _read(trial.model / _REPORT) or {}
    metrics = {
        name: float(value)
        for name, value in report.get("metrics", {}).items()
        if name.startswith("eval_") and isinstance(value, int | float)
    }
    return Outcome(DONE, metrics, seconds)


def _last_metrics(trial: Trial) -> dict[str, float]:
    evaluations = evaluations_of(trial)
    return dict(evaluations[-1]["metrics"]) if evaluations else {}


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    found = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    return (found.removeprefix("error: ") or next(filter(None, reversed(lines)), ""))[:_LAST_WORDS]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
