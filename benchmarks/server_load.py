"""The server under load: real tweets from many clients at once, beside the pipeline in a process of its own.

The clients are `wrk` (Debian: apt-get install wrk) on the same machine. The pipeline is measured before and after, to
detect a noisy machine. All responses must be 200.

    python benchmarks/server_load.py deployment/ --seconds 60
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data import DATASETS
from deepsparse import Pipeline
from deepsparse.hardware import isa
from record import keep, table
from resparse.console import run, say
from resparse.errors import UserError

_TASK = "text_classification"
_WINDOW = 512
_LUA = """\
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local threads, next_body = {}, 0
failed = 0

function setup(thread) threads[#threads + 1] = thread end

function request()
  next_body = next_body % #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[next_body])
end

function response(status, headers, body)
  if status ~= 200 or not body:find('"labels"', 1, true) then failed = failed + 1 end
end

function done(summary, latency, requests)
  local lost = summary.errors
  local total = lost.connect + lost.read + lost.write + lost.timeout
  for _, thread in ipairs(threads) do total = total + thread:get("failed") end
  io.write(string.format(
    '\\nRESULT {"requests": %d, "seconds": %f, "errors": %d, "mean": %f, "p50": %f, ' ..
    '"p95": %f, "p99": %f, "max": %f}\\n',
    summary.requests, summary.duration / 1e6, total, latency.mean / 1e3, latency:percentile(50) / 1e3,
    latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
"""


class LoadError(UserError):
    """A load test that could not be run."""


def main() -> None:
    arguments = _arguments()
    if shutil.which("wrk") is None:
        raise LoadError("The clients are wrk, which is not installed: apt-get install wrk.")
    dataset = DATASETS[arguments.dataset]
    rows = [[row[column] for column in dataset.columns] for row in dataset.rows("test")]
    before = in_process(arguments.model, rows, arguments.seconds / 2)
    with server(arguments.model) as url:
        load(url, rows, arguments.clients, arguments.warmup)
        served = load(url, rows, arguments.clients, arguments.seconds)
    after = in_process(arguments.model, rows, arguments.seconds / 2)
    pipeline = (before + after) / 2
    rate = served["requests"] / served["seconds"]
    lines = [
        ["in-process pipeline", f"{pipeline:.1f}", "", "", "", "", ""],
        [
            f"server, {arguments.clients} clients",
            f"{rate:.1f}",
            f"{rate / pipeline:.2f}",
            *(f"{served[name]:.1f}" for name in ("p50", "p95", "p99")),
            str(served["errors"]),
        ],
    ]
    header = ["", "texts/s", "ratio", "p50 ms", "p95 ms", "p99 ms", "errors"]
    keep(
        "server_load",
        f"Server under load: {arguments.dataset}, {arguments.seconds:g} s, {isa()}",
        [table(header, lines)],
        {"pipeline": {"before": before, "after": after}, "server": served, "ratio": rate / pipeline},
        arguments.results,
    )


def in_process(model: str, rows: list[list[str]], seconds: float) -> float:
    """Texts a second of the pipeline alone, from text to label."""
    classify = Pipeline.create(_TASK, model)
    windows = itertools.cycle([rows[start : start + _WINDOW] for start in range(0, len(rows), _WINDOW)])
    classify.predict(rows[:_WINDOW])
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        count += len(classify.predict(next(windows)))
    return count / (time.perf_counter() - begun)


def load(url: str, rows: list[list[str]], clients: int, seconds: float) -> dict[str, Any]:
    """What wrk measured: requests, errors, and latencies in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        script, bodies = Path(folder, "load.lua"), Path(folder, "bodies.jsonl")
        script.write_text(_LUA)
        bodies.write_text("".join(json.dumps({"sequences": [row]}) + "\n" for row in rows))
        done = subprocess.run(
            ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout=30s", "-s", str(script), url],
            env={"BODIES": str(bodies)},
            capture_output=True,
            text=True,
            check=False,
        )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return found
    raise LoadError(f"wrk failed: {done.stderr or done.stdout}")


@contextmanager
def server(model: str) -> Iterator[str]:
    """The server in a process of its own; yields the address to ask."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "deepsparse.server.cli", "--host", "127.0.0.1", "--log-level", "warning"]
    process = subprocess.Popen([*command, "--port", str(port), "--task", _TASK, "--model_path", model])
    try:
        _wait(process, f"http://127.0.0.1:{port}/v2/health/ready")
        yield f"http://127.0.0.1:{port}/v2/models/{_TASK}/infer"
    finally:
        process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise LoadError("The server did not start.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put the server under load.")
    parser.add_argument("model", help="a deployment folder")
    parser.add_argument("--dataset", choices=DATASETS, default="tweeteval_emotion")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warmup", type=float, default=5)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    say(f"about {2 * arguments.seconds + arguments.warmup + 15:.0f} s")
    return arguments


if __name__ == "__main__":
    raise SystemExit(run(main))
