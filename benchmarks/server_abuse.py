"""Clients that do not behave, and what others notice of them: latency, errors, memory of the server, lines in its log.

Others are a probe that asks at a fixed rate, each request on a kept connection and each tenth on a new one. Against it
stand heads sent byte by byte, heads without end, garbage behind requests sent ahead, clients that go away in the middle
of their body, and thousands of connections that say nothing.

    python benchmarks/server_abuse.py deployment/
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data import DATASETS
from deepsparse.hardware import isa
from deepsparse.server.connections import most_connections
from http_clients import Clients, Served, quantile, serving
from record import keep, table
from resparse.console import run, say

NAME = "measured"
INFER = f"/v2/models/{NAME}/infer"

Abuse = Callable[[int, int, float], Awaitable[int]]
"""Port, number of clients and seconds, to how many connections were made."""

_PAUSE_S = 0.2


def main() -> None:
    arguments = _arguments()
    dataset = DATASETS[arguments.dataset]
    rows = [[row[column] for column in dataset.columns] for row in dataset.rows("test")]
    bodies = [json.dumps({"sequences": [row]}).encode() for row in rows]
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = {"endpoints": [{"task": "text_classification", "model": arguments.model, "name": NAME}]}
        with serving({**config, "max_connections": arguments.most}, folder) as served:
            for name, (abuse, share) in ABUSES.items():
                clients = round(share * arguments.clients)
                say(f"{name}: {clients:,} clients")
                found[name] = asyncio.run(
                    measured(served, abuse, bodies, clients, arguments.seconds, arguments.rate)
                )
    keep(
        "server_abuse",
        f"Clients that do not behave, and what others notice: {arguments.dataset}, {isa()}",
        [abuse_table(found)],
        {"found": found},
        arguments.results,
    )


async def measured(
    served: Served, abuse: Abuse, bodies: Sequence[bytes], clients: int, seconds: float, rate: float
) -> dict[str, Any]:
    """What a probe at `rate` requests a second notices of an abuse, and what becomes of the server."""
    memory, lines = served.memory(), _lines(served)
    loop = asyncio.get_running_loop()
    # In a process of their own, or the probe would wait for them.
    with ProcessPoolExecutor(1, get_context("spawn")) as others:
        going_on = loop.run_in_executor(others, _misbehave, abuse, served.port, clients, seconds)
        await asyncio.sleep(min(1.0, seconds / 2))
        answers, peak = await _noticed(served, bodies, seconds, rate)
        made = await going_on
    await asyncio.sleep(1)
    spent = [answer.seconds * 1e3 for answer in answers]
    return {
        "clients": clients,
        "connections": made,
        "asked": len(answers),
        "failed": sum(answer.status != 200 for answer in answers),
        "p50": quantile(spent, 0.5),
        "p99": quantile(spent, 0.99),
        "memory_mib": {"before": memory, "peak": peak, "after": served.memory()},
        "log_lines": _lines(served) - lines,
    }


async def _noticed(
    served: Served, bodies: Sequence[bytes], seconds: float, rate: float
) -> tuple[list[Any], float]:
    """The probe's answers, and the most memory meanwhile."""
    probing = asyncio.create_task(_probe(served.port, bodies, rate, seconds))
    peak = 0.0
    while not probing.done():
        await asyncio.sleep(0.1)
        peak = max(peak, served.memory())
    return await probing, peak


def _misbehave(abuse: Abuse, port: int, clients: int, seconds: float) -> int:
    most_connections(clients + 1000)
    return asyncio.run(abuse(port, clients, seconds))


async def nothing(port: int, clients: int, seconds: float) -> int:
    """No abuse."""
    await asyncio.sleep(seconds)
    return 0


async def slow_heads(port: int, clients: int, seconds: float) -> int:
    """Slow-loris: each sends a head byte by byte, and does not end."""

    async def client(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.5)

    return await _all(port, clients, seconds, b"POST / HTTP/1.1\r\nX: ", client)


async def endless_heads(port: int, clients: int, seconds: float) -> int:
    """Each sends header after header, as fast as it is taken."""

    async def client(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"X-Name: " + b"a" * 4000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    return await _all(port, clients, seconds, b"POST / HTTP/1.1\r\n", client)


async def garbage_ahead(port: int, clients: int, seconds: float) -> int:
    """Each sends a hundred requests ahead and garbage behind them, and connects again."""
    ahead = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 100 + b"\0garbage\r\n\r\n" * 100

    async def client(writer: asyncio.StreamWriter) -> None:
        await writer.drain()
        await asyncio.sleep(_PAUSE_S)

    return await _all(port, clients, seconds, ahead, client)


async def leaving(port: int, clients: int, seconds: float) -> int:
    """Each goes away in the middle of its body, and connects again."""
    begun = f'POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{"sequences": "a'.encode()

    async def client(writer: asyncio.StreamWriter) -> None:
        await writer.drain()
        await asyncio.sleep(_PAUSE_S)

    return await _all(port, clients, seconds, begun, client)


async def idle(port: int, clients: int, seconds: float) -> int:
    """Each connects and says nothing."""

    async def client(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)

    return await _all(port, clients, seconds, b"", client)


ABUSES: dict[str, tuple[Abuse, float]] = {
    "none": (nothing, 0),
    "heads byte by byte": (slow_heads, 0.1),
    "heads without end": (endless_heads, 0.01),
    "garbage behind 100 requests ahead": (garbage_ahead, 0.002),
    "gone in the middle of a body": (leaving, 0.01),
    "idle connections": (idle, 1),
    "idle connections, again": (idle, 1),
}
"""By name, with the share of `--clients` that do it: some cost the server's processor, others its memory."""


def abuse_table(found: dict[str, dict[str, Any]]) -> str:
    """A line for each abuse."""
    header = [
        "abuse",
        "clients",
        "connections",
        "others asked",
        "failed",
        "p50 ms",
        "p99 ms",
        "MiB before",
        "peak",
        "after",
        "log lines",
    ]
    lines = [
        [
            name,
            f"{one['clients']:,}",
            f"{one['connections']:,}",
            f"{one['asked']:,}",
            f"{one['failed']}",
            f"{one['p50']:.1f}",
            f"{one['p99']:.1f}",
            *(f"{one['memory_mib'][when]:.1f}" for when in ("before", "peak", "after")),
            f"{one['log_lines']}",
        ]
        for name, one in found.items()
    ]
    return table(header, lines)


async def _all(
    port: int,
    clients: int,
    seconds: float,
    first: bytes,
    client: Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> int:
    """Run clients that send `first`, go on as `client` does, and connect again where they were cut; count them."""
    made = 0

    async def again() -> None:
        nonlocal made
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
                made += 1
                try:
                    writer.write(first)
                    await client(writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(_PAUSE_S)

    tasks = []
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds + 1):
            for number in range(clients):
                tasks.append(asyncio.create_task(again()))
                if number % 100 == 0:
                    await asyncio.sleep(0.005)
            await asyncio.gather(*tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return made


async def _probe(port: int, bodies: Sequence[bytes], rate: float, seconds: float) -> list[Any]:
    kept, new = Clients(port), Clients(port)
    begun = asyncio.get_running_loop().time()
    tasks = []
    for index in range(int(rate * seconds)):
        wait = begun + index / rate - asyncio.get_running_loop().time()
        await asyncio.sleep(max(wait, 0))
        clients = new if index % 10 == 0 else kept
        if clients is new:
            new.close()
        tasks.append(asyncio.create_task(clients.ask(INFER, bodies[index % len(bodies)])))
    answers = list(await asyncio.gather(*tasks))
    kept.close()
    new.close()
    return answers


def _lines(served: Served) -> int:
    return len(served.log.read_text(encoding="utf-8", errors="replace").splitlines())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Misbehave, and measure what others notice.")
    parser.add_argument("model", help="a deployment folder")
    parser.add_argument("--dataset", choices=DATASETS, default="tweeteval_emotion")
    parser.add_argument("--clients", type=int, default=10_000, help="that misbehave, at most [%(default)s]")
    parser.add_argument(
        "--most", type=int, default=16_384, help="max_connections of the server [%(default)s]"
    )
    parser.add_argument("--rate", type=float, default=50, help="requests/s of the others [%(default)s]")
    parser.add_argument("--seconds", type=float, default=20, help="each [%(default)s]")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    arguments.model = str(Path(arguments.model).resolve())
    say(f"about {len(ABUSES) * (arguments.seconds + 4):.0f} s")
    return arguments


if __name__ == "__main__":
    raise SystemExit(run(main))
