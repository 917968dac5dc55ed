"""Python in a child process, with JSON as input and output."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_json(
    code: str, value: Any, environment: Mapping[str, str], folder: Path | None = None
) -> dict[str, Any]:
    """Run `code`, which reads `value` as JSON from standard input and prints a JSON object; warnings are errors.

    `environment` is the child's whole environment.
    """
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=json.dumps(value),
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    return dict(json.loads(child.stdout))
