"""A server in a process of its own, and its clients: at a fixed rate whatever it answers, or one request after another.

Requests go over connections that are kept, as raw bytes: the clients share the machine with the server, and a library
would take as long as the server.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resparse.errors import UserError

LOST = 0
"""The status of a request that was sent whole and got no answer."""

# Below the server's time, as clients that keep connections have to.
_KEPT_S = 3.0

REFUSED = -1
"""The status of a request for which there was no connection."""


class LoadError(UserError):
    """A load test that could not be run."""


@dataclass(frozen=True)
class Answer:
    """An answer, or that there is none.

    Attributes:
        sent: when, by `time.perf_counter`.
        seconds: until the whole answer was there.
        status: of HTTP, or `LOST` or `REFUSED`.
        body: as it came.
    """

    sent: float
    seconds: float
    status: int
    body: bytes = b""


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        port: on loopback.
        log: its output.
    """

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> str:
        """The text of an address."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
            text: str = response.read().decode()
            return text

    def memory(self) -> float:
        """MiB that are resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found.group(1)) / 1024 if found else 0.0


def free_port() -> int:
    """A port of loopback that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(config: dict[str, Any], folder: Path, *words: str) -> Iterator[Served]:
    """Serve a configuration until the block ends; its file and the log lie in `folder`. `words` are more arguments."""
    port = free_port()
    file, log = folder / "config.yaml", folder / "server.log"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "deepsparse.server.cli", "--port", str(port), "--log-level", "warning"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--config-file", str(file), *words], stdout=output, stderr=output, env=dict(os.environ)
        )
    served = Served(process, port, log)
    try:
        _wait(served)
        yield served
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(served: Served) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and served.process.poll() is None:
        try:
            served.get("/v2/health/ready")
            return
        except OSError:
            time.sleep(0.05)
    raise LoadError(f"The server did not start:\n{served.log.read_text()}")


class Clients:
    """Connections to a server, kept from request to request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def ask(self, path: str, body: bytes, method: str = "POST") -> Answer:
        """Send a request, and wait for its answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        begun = time.perf_counter()
        try:
            reader, writer = self._kept() or await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return Answer(begun, time.perf_counter() - begun, REFUSED)
        try:
            writer.write(head + body)
            received = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", received)
            answered = await reader.readexactly(int(length.group(1)) if length else 0)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return Answer(begun, time.perf_counter() - begun, LOST)
        if b"connection: close" in received.lower():
            writer.close()
        else:
            self._free.append((reader, writer, time.perf_counter()))
        return Answer(begun, time.perf_counter() - begun, int(received[9:12]), answered)

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection that has not been idle for so long that the server may be closing it."""
        latest = time.perf_counter() - _KEPT_S
        while self._free:
            reader, writer, since = self._free.pop()
            if since > latest and not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def at_rate(self, path: str, bodies: Sequence[bytes], rate: float, seconds: float) -> list[Answer]:
        """Requests sent at even distances, without regard to what becomes of those before."""
        begun, tasks = time.perf_counter(), []
        for index in range(int(rate * seconds)):
            wait = begun + index / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            elif index % 50 == 0:
                await asyncio.sleep(0)  # late; the answers are to be read all the same
            tasks.append(asyncio.create_task(self.ask(path, bodies[index % len(bodies)])))
        return list(await asyncio.gather(*tasks))

    async def in_turns(
        self,
        path: str,
        bodies: Sequence[bytes],
        clients: int,
        until: asyncio.Event | float,
        most: int = 10**9,
    ) -> list[Answer]:
        """Requests of so many clients, each after the answer to its last, until an event or for some seconds."""
        answers: list[Answer] = []
        sent = 0
        end = time.perf_counter() + until if isinstance(until, float) else float("inf")

        async def client() -> None:
            nonlocal sent
            while sent < most and time.perf_counter() < end:
                if isinstance(until, asyncio.Event) and until.is_set():
                    return
                sent += 1
                answer = await self.ask(path, bodies[sent % len(bodies)])
                answers.append(answer)
                if answer.status == REFUSED:
                    return

        await asyncio.gather(*(client() for _ in range(clients)))
        return answers

    def close(self) -> None:
        """Close all connections."""
        for _, writer, _ in self._free:
            writer.close()
        self._free.clear()


@asynccontextmanager
async def clients_of(served: Served) -> AsyncIterator[Clients]:
    """Clients, and no connection of theirs when the block ends."""
    clients = Clients(served.port)
    try:
        yield clients
    finally:
        clients.close()
        await asyncio.sleep(0)


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def slope(samples: Sequence[tuple[float, float]], parts: int = 10) -> tuple[float, float]:
    """The slope of the straight line nearest to (x, y) pairs, and its standard error.

    The error is that of a jackknife which leaves out consecutive parts: neighbours are not independent.
    """
    whole = _slope(samples)
    size = max(len(samples) // parts, 1)
    others = [_slope([*samples[:start], *samples[start + size :]]) for start in range(0, size * parts, size)]
    return whole, ((parts - 1) / parts * sum((other - whole) ** 2 for other in others)) ** 0.5


def _slope(samples: Sequence[tuple[float, float]]) -> float:
    count = len(samples)
    mean_x = sum(x for x, _ in samples) / count
    mean_y = sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread
