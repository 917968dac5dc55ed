"""Long runs that can be stopped and repeated: a command that has finished in its folder does not run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from process import Cost, our_command, timed
from resparse.console import say
from resparse.files import write_json


def resumable_training(title: str, command: Sequence[str], folder: Path) -> Cost:
    """Train with our command into `folder`/model; returns its cost, measured now or when it ran.

    Args:
        title: for the screen.
        command: the flags, without --output_dir.
        folder: of the run; its output goes to `log.txt`, and `cost.json` marks it as finished.

    Raises:
        RunFailedError: the run failed.
    """
    finished = folder / "cost.json"
    if finished.is_file():
        earlier = json.loads(finished.read_text())
        if earlier["command"] == list(command):
            return Cost(**earlier["cost"])
        say(f"{folder}: its command has changed since, it runs again")
    if folder.exists():
        shutil.rmtree(folder)
    say(f"{title} -> {folder}")
    cost = timed([*our_command(), *command, "--output_dir", str(folder / "model")], folder / "log.txt")
    write_json(finished, {"command": list(command), "cost": asdict(cost)})
    say(f"  {cost.seconds:.0f} s")
    return cost
