"""The process of one trial: the training command, watched. `python -m sparseml.search.trial TASK FOLDER --flags ...`

Of a guided run all is chosen as ever, and only the end is left out: of all trials the best alone is exported.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from resparse.console import run as run_command
from sparseml import tasks
from sparseml.search.trials import EVALUATIONS
from sparseml.training.arguments import parse
from sparseml.training.run import run


class _Reporting(TrainerCallback):
    """Writes down every evaluation while training; stops the training when the search has ended without it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / EVALUATIONS
        self._parent = os.getppid()
        self._training = False

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._training = True

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if os.getppid() != self._parent:
            self._parent = os.getppid()
            os.kill(os.getpid(), signal.SIGTERM)  # ends it with a checkpoint

    def on_evaluate(
        self, args: Any, state: TrainerState, control: Any, metrics: dict[str, float] | None = None, **_: Any
    ) -> None:
        found = metrics or (state.log_history[-1] if state.log_history else {})
        numbers = {
            name: float(value)
            for name, value in found.items()
            if name.startswith("eval_") and isinstance(value, int | float)
        }
        if self._training and state.is_world_process_zero:
            entry = {"share": state.global_step / max(state.max_steps, 1), "metrics": numbers}
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._training = False


def main(words: Sequence[str]) -> int:
    """Carry out a trial; returns the exit code."""
    task, folder, *flags = words

    def work() -> None:
        arguments = parse(tasks.load_task(task), flags)
        guided = replace(arguments.guided, concludes=False) if arguments.guided is not None else None
        run(replace(arguments, guided=guided, callbacks=(_Reporting(Path(folder)),)))

    return run_command(work)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
