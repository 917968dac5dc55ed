"""Does the package work with each of its extras alone, in a clean environment, from the first use and without network?

Builds the wheel, makes an environment for each extra, installs, and runs what that extra promises (`first_uses.py`),
with every socket refused but loopback. Needs a package index. `torch` is tried first: what it trains and exports is
what the others run.

    python benchmarks/extras.py [EXTRA ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from first_uses import DEPLOYMENT, NEEDS_TORCH, USES, Use
from record import RESULTS, keep, table
from resparse.console import run, say
from resparse.errors import UserError
from support.serving import free_port

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = ROOT / "tests" / "support" / "offline"
ROWS = ROOT / "src" / "sparseml" / "demo" / "support_train.csv"
_TORCH = "torch==2.13.0"  # as in the Makefile: anything looser may be a CUDA build
_LIMIT_S = 1200
_BOUNDS = {"RESPARSE_MAX_ROWS": "96", "RESPARSE_MAX_STEPS": "4", "OMP_NUM_THREADS": "1"}


class ExtraError(UserError):
    """An installation that cannot be tried."""


def build(python: str, folder: Path) -> Path:
    """The wheel of this checkout."""
    _pip(python, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("resparse-*.whl")
    return wheel


def install(python: str, wheel: Path, extra: str, folder: Path, torch: str) -> dict[str, Any]:
    """Make an environment; its packages, their size on disk without pip's own and byte code, and the seconds."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    begin = time.perf_counter()
    inside = str(folder / "bin" / "python")
    packages = next(folder.glob("lib/python*/site-packages"))
    shipped = {path.name for path in packages.iterdir()}
    if NEEDS_TORCH & {*extra.split(",")}:
        _pip(inside, "install", torch)
    _pip(inside, "install", f"{wheel}[{extra}]" if extra else str(wheel))
    seconds = time.perf_counter() - begin
    added = [path for path in packages.iterdir() if path.name not in shipped]
    size = sum(one.lstat().st_size for path in added for one in (path, *path.rglob("*")))
    return {
        "packages": sum(path.suffix == ".dist-info" for path in added),
        "mib": size / 2**20,
        "install_seconds": seconds,
    }


def try_out(environment: Path, uses: Sequence[Use], desk: Path, deployment: Path) -> list[str]:
    """Run the uses in a folder with rows; what went otherwise than promised."""
    desk.mkdir()
    lines = ROWS.read_text(encoding="utf-8").splitlines(keepends=True)
    (desk / "rows.csv").write_text("".join(lines[:240]), encoding="utf-8")
    log = desk / "network"
    variables = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        **_BOUNDS,
        "HOME": str(desk),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(OFFLINE),
        "RESPARSE_NETWORK_LOG": str(log),
    }
    wrong = []
    for use in uses:
        words = [word.replace(DEPLOYMENT, str(deployment)) for word in use.command]
        code, text = _carry_out(environment, words, desk, variables)
        shown = " ".join(use.command)[:60]
        if code != use.code or use.says not in text:
            wrong.append(f"{shown}: exit status {code} ({use.code} wanted), {_last(text)}")
        elif "Traceback" in text and use.code != 1:
            wrong.append(f"{shown}: a traceback, {_last(text)}")
    if log.exists():
        wrong.append(f"the network was asked for: {log.read_text(encoding='utf-8').partition(os.linesep)[0]}")
    return wrong


def _carry_out(
    environment: Path, words: Sequence[str], desk: Path, variables: Mapping[str, str]
) -> tuple[int, str]:
    if words[0] == "serve":
        return _serve(environment, words[1], desk, variables)
    program = environment / "bin" / words[0]
    done = subprocess.run(
        [str(program), *words[1:]],
        cwd=desk,
        env=variables,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _serve(environment: Path, deployment: str, desk: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """Start the server, and ask it once."""
    port = free_port()
    words = ["--task", "text_classification", "--model_path", deployment, "--port", str(port)]
    log = desk / "server.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [str(environment / "bin" / "deepsparse.server"), *words],
            cwd=desk,
            env=variables,
            stdout=file,
            stderr=file,
        )
    address = f"http://127.0.0.1:{port}/v2/models/text_classification/infer"
    request = urllib.request.Request(
        address, json.dumps({"sequences": ["a fine day"]}).encode(), {"Content-Type": "application/json"}
    )
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return 0, answer.read().decode()
            except OSError:
                if server.poll() is not None:
                    break
                time.sleep(0.2)
        return server.poll() or 1, log.read_text(encoding="utf-8")
    finally:
        server.terminate()
        server.wait(30)


def _pip(python: str, verb: str, *words: str) -> None:
    command = [python, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", "--no-input", *words]
    command += ["--no-compile"] if verb == "install" else []
    # What lies on PYTHONPATH would count as installed.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExtraError(f"pip {verb} {' '.join(words)}:\n{done.stderr[-2000:]}")


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


def main() -> None:
    """Try all extras, or those that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extras", nargs="*", help=f"of {', '.join(repr(name) for name in USES)} [all]")
    parser.add_argument("--python", default=sys.executable, help="makes the environments [this one]")
    parser.add_argument("--torch", default=_TORCH, help=f"requirement to install first [{_TORCH}]")
    parser.add_argument("--wheel", type=Path, help="in place of one that is built from this checkout")
    parser.add_argument("--deployment", type=Path, help="exported folder for the others, in place of torch's")
    parser.add_argument(
        "--folder", type=Path, help="where the environments are made, and removed again [a temporary one]"
    )
    arguments = parser.parse_args()
    names = arguments.extras or sorted(USES, key=lambda name: name not in NEEDS_TORCH)
    if unknown := {*names} - {*USES}:
        raise ExtraError(f"No such extra: {', '.join(unknown)}.")
    failed = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        wheel = arguments.wheel or build(arguments.python, folder)
        deployment = arguments.deployment.resolve() if arguments.deployment else folder / "deployment"
        for name in names:
            outcome = _outcome(arguments, name, wheel, folder, deployment)
            _keep(name, outcome, wheel.stat().st_size / 2**20)
            failed += [name or "no extra"] if outcome["wrong"] else []
    if failed:
        raise ExtraError(f"Not as promised: {', '.join(failed)}.")


def _outcome(
    arguments: argparse.Namespace, name: str, wheel: Path, folder: Path, deployment: Path
) -> dict[str, Any]:
    environment, desk = folder / "environment", folder / "desk"
    outcome = install(arguments.python, wheel, name, environment, arguments.torch)
    begin = time.perf_counter()
    outcome["wrong"] = try_out(environment, USES[name], desk, deployment)
    outcome["uses"], outcome["use_seconds"] = len(USES[name]), time.perf_counter() - begin
    made = desk / "trained" / "deployment"
    if made.is_dir() and not deployment.exists():
        shutil.copytree(made, deployment)
    shutil.rmtree(environment)
    shutil.rmtree(desk)
    say(f"{name or 'no extra'}: {outcome['mib']:.0f} MiB, {'; '.join(outcome['wrong']) or 'as promised'}")
    return outcome


def _keep(name: str, outcome: dict[str, Any], wheel_mib: float) -> None:
    """Write the table of what has been tried so far, by this call and earlier ones."""
    file = RESULTS / "extras.json"
    outcomes = json.loads(file.read_text(encoding="utf-8"))["outcomes"] if file.is_file() else {}
    outcomes[name] = outcome
    rows = [
        [
            f"`resparse[{name}]`" if name else "`resparse`",
            str(one["packages"]),
            f"{one['mib']:,.0f} MiB",
            f"{one['install_seconds']:.0f} s",
            f"{one['uses']} in {one['use_seconds']:.0f} s",
            "yes" if not one["wrong"] else re.sub(r"\s+", " ", "; ".join(one["wrong"])),
        ]
        for name, one in sorted(outcomes.items())
    ]
    header = ["installed", "packages", "on disk", "to install", "first uses, imports included", "as promised"]
    note = (
        f"The wheel has {wheel_mib:.1f} MiB. Each extra alone in an environment of its own, sizes without byte code; "
        "PyTorch is the build for processors. Every socket but loopback is refused. First uses are those of "
        "`benchmarks/first_uses.py`: what works, and what has to name the extra that is missing."
    )
    keep(
        "extras",
        "The package with each extra alone",
        [table(header, rows), note],
        {"outcomes": dict(outcomes)},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
