"""What the training commands of all tasks have in common: the console command, and `main` for Python."""

from __future__ import annotations

import sys
from typing import Any

from resparse.console import run as run_command
from sparseml.missing import needs
from sparseml.options import early


class TrainingCommand:
    """The training command of a task; the task is imported when it runs.

    Args:
        task: a name of `sparseml.tasks`.
    """

    def __init__(self, task: str) -> None:
        self._task = task

    def cli(self) -> int:
        """The console command; exit code 2 after a mistake of the user's."""

        def work() -> None:
            early.check(self._task, sys.argv[1:])
            with needs("Training"):
                self.main()

        return run_command(work)

    def main(self, /, argv: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """Train, evaluate and predict; see `training.run.main`."""
        from sparseml.tasks import load_task
        from sparseml.training import run

        return run.main(load_task(self._task), argv, **kwargs)
