"""The command `sparseml.transformers.token_classification`."""

from __future__ import annotations

import sys
from typing import Any

from resparse.console import run as run_command
from sparseml.options import early

_TASK = "token_classification"


def cli() -> int:
    """The console command; exit code 2 after a mistake of the user's."""

    def work() -> None:
        early.check(_TASK, sys.argv[1:])
        main()

    return run_command(work)


def main(argv: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
    """Train, evaluate and predict; see `training.run.main`."""
    from sparseml.tasks import load_task
    from sparseml.training import run

    return run.main(load_task(_TASK), argv, **kwargs)


if __name__ == "__main__":
    raise SystemExit(cli())
