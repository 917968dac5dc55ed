"""A `deepsparse.server` in a process of its own, on a free port of loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PATIENCE_S = 60


@dataclass
class Running:
    """A running server.

    Attributes:
        url: without a slash at its end.
        log: its output.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an address."""
        return self.ask(urllib.request.Request(self.url + path))

    def post(self, path: str, body: Any, method: str = "POST") -> tuple[int, Any]:
        """Status and JSON of the response to JSON, or to raw bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        status, text = self.ask(urllib.request.Request(self.url + path, data, headers, method=method))
        return status, json.loads(text)

    @staticmethod
    def ask(request: urllib.request.Request) -> tuple[int, str]:
        """Status and text, of errors too."""
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(*words: object, log: Path, port: int | None = None) -> Iterator[Running]:
    """Run the server with these arguments until the block ends; it is killed if it does not stop in time."""
    port = port or free_port()
    command = [sys.executable, "-m", "deepsparse.server.cli", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*command, *map(str, words)], stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    running = Running(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait(running)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(running: Running) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and running.process.poll() is None:
        try:
            if running.get("/v2/health/ready")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{running.log.read_text()}")
