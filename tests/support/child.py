"""Python in a process of its own: what it is asked goes in as JSON, and what it found comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def answer(
    code: str, question: Any, environment: Mapping[str, str], folder: Path | None = None
) -> dict[str, Any]:
    """Run `code`, which reads JSON from standard input and prints a JSON object; warnings are errors.

    Args:
        code: a program.
        question: what it reads.
        environment: the whole of its environment.
        folder: in which it runs.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=json.dumps(question),
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(json.loads(done.stdout))
