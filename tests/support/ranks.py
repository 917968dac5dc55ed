"""A training command run by several processes, and what each of them held after every step and wrote into its folder.

    results = ranks.run(2, "text_classification", tmp_path / "log", arguments)
    results[1].steps[-1]["bert.pooler.dense.weight"], results[1].written
    code, printed = ranks.struck(2, "text_classification", tmp_path / "log", arguments, signal.SIGKILL, 5)

As a program, it is one of the processes: torchrun starts it.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
_WRITING = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "shutil.move")


@dataclass(frozen=True)
class Result:
    """What one process saw.

    Attributes:
        steps: weights and modifiers' state after each optimizer step.
        written: the paths in the output folder that it made, changed or removed.
        report: what the command returned.
        printed: by all processes together.
    """

    steps: list[dict[str, Any]]
    written: list[str]
    report: dict[str, Any]
    printed: str


def run(
    processes: int, command: str, log: Path, arguments: Mapping[str, Any], environment: Mapping[str, str] = {}
) -> list[Result]:
    """Run a command of `sparseml.transformers` by so many processes; `log` is a new folder for their records."""
    import torch

    child = _launched(processes, command, log, arguments, environment)
    assert child.returncode == 0, child.stdout + child.stderr
    results = []
    for rank in range(processes):
        record = json.loads((log / f"{rank}.json").read_text())
        steps = torch.load(log / f"{rank}.pt")
        results.append(Result(steps, record["written"], record["report"], child.stdout + child.stderr))
    return results


def struck(
    processes: int,
    command: str,
    log: Path,
    arguments: Mapping[str, Any],
    by: int,
    after: int,
    environment: Mapping[str, str] = {},
) -> tuple[int, str]:
    """As `run`; the last process sends itself a signal after so many steps. The exit code, and what all printed."""
    strike = {"signal": int(by), "step": after, "rank": processes - 1}
    child = _launched(processes, command, log, arguments, environment, strike)
    return child.returncode, child.stdout + child.stderr


def _launched(
    processes: int,
    command: str,
    log: Path,
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
    strike: Mapping[str, int] | None = None,
) -> subprocess.CompletedProcess[str]:
    log.mkdir(parents=True)
    values = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    asked = {"command": command, "arguments": values, "strike": strike}
    (log / "arguments.json").write_text(json.dumps(asked))
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), __file__, str(log)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)]),
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def _watched(output: Path) -> list[str]:
    """A list that grows with everything that this process makes, changes or removes below `output`."""
    written: list[str] = []
    root = str(output.absolute())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in _WRITING:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and str(Path(path).absolute()).startswith(root):
            written.append(f"{event} {path}")

    sys.addaudithook(hook)
    return written


def main(log: Path) -> None:
    """Be one of the processes."""
    asked = json.loads((log / "arguments.json").read_text())
    command = importlib.import_module(f"sparseml.transformers.{asked['command']}")
    import torch

    from sparseml.session.callback import RecipeCallback

    torch.set_num_threads(1)
    rank, strike = int(os.environ.get("RANK", "0")), asked["strike"]
    steps: list[dict[str, Any]] = []
    on_step_end = RecipeCallback.on_step_end

    def record(callback: RecipeCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        session = callback.session
        held = {**session.run.model.state_dict(), **session.state()}
        steps.append({name: value.detach().clone() for name, value in held.items()})
        if strike and strike["rank"] == rank and strike["step"] == len(steps):
            os.kill(os.getpid(), strike["signal"])
        on_step_end(callback, args, state, control, **kwargs)

    RecipeCallback.on_step_end = record  # type: ignore[method-assign]
    written = _watched(Path(asked["arguments"]["output_dir"]))
    report = command.main(**asked["arguments"])
    torch.save(steps, log / f"{rank}.pt")
    (log / f"{rank}.json").write_text(json.dumps({"written": written, "report": report}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
