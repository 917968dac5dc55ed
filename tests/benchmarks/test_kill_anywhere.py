"""The short form of the program that kills commands at random moments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "kill_anywhere.py"


@pytest.mark.slow
def test_commands_that_are_killed_end_as_undisturbed_ones(tmp_path: Path) -> None:
    words = ["--kills", "1", "--folder", str(tmp_path), "--subjects", "training", "download"]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split("|")[1].strip() for line in done.stdout.splitlines()[2:]] == [
        "training",
        "download, two at once",
        "download, two at once, locks without effect",
    ]
