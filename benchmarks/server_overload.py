"""The server at four times its capacity, with its model replaced all the while, and stopped under load.

Of overload: what accepted requests wait, how soon the others are refused, how soon all is as before. Of replacing: that
no request is lost, that no answer is of two models, and whether the memory grows. Of stopping (SIGTERM): that each
request which was sent whole on an open connection is answered.

    python benchmarks/server_overload.py deployment/
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import DATASETS
from deepsparse.hardware import isa
from http_clients import LOST, Answer, Served, clients_of, quantile, serving, slope
from record import keep, table
from resparse.console import run, say

NAME = "measured"
INFER = f"/v2/models/{NAME}/infer"
OTHER = "other "
"""What the labels of the second model begin with; else it is the first."""

_CLIENTS = 32
_TIMES = 4


def main() -> None:
    arguments = _arguments()
    dataset = DATASETS[arguments.dataset]
    rows = [[row[column] for column in dataset.columns] for row in dataset.rows("test")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = prepared(Path(arguments.model), folder)
        with serving(config, folder) as served:
            overload = asyncio.run(overloaded(served, bodies(rows, arguments.texts), arguments.seconds))
        with serving(config, folder) as served:
            swaps = asyncio.run(replaced(served, bodies(rows, 4), arguments.requests))
        stops = [_stopped_once(config, folder, bodies(rows, 4)) for _ in range(arguments.stops)]
    keep(
        "server_overload",
        f"Server at {_TIMES} times its capacity, with its model replaced, and stopped: {arguments.dataset}, {isa()}",
        [overload_table(overload), replaced_table(swaps), stopped_table(stops)],
        {"overload": overload, "replaced": swaps, "stopped": stops},
        arguments.results,
    )


def prepared(model: Path, folder: Path) -> dict[str, Any]:
    """Two models below `folder` that differ in their labels, and the configuration of a server that may swap them."""
    models = folder / "models"
    for name in ("first", "second"):
        shutil.copytree(model, models / name)
    file = models / "second" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    labels = {key: OTHER + label for key, label in config["id2label"].items()}
    config |= {"id2label": labels, "label2id": {label: int(key) for key, label in labels.items()}}
    file.write_text(json.dumps(config), encoding="utf-8")
    return {
        "endpoints": [{"task": "text_classification", "model": str(models / "first"), "name": NAME}],
        "allow_endpoint_changes": True,
        "models_folder": str(models),
    }


def bodies(rows: Sequence[Any], texts: int) -> list[bytes]:
    """Requests of so many texts each."""
    endless = itertools.cycle(rows)
    return [
        json.dumps({"sequences": list(itertools.islice(endless, texts))}).encode()
        for _ in range(max(len(rows) // texts, 1))
    ]


async def overloaded(
    served: Served, requests: Sequence[bytes], seconds: float, warmup: float = 10.0
) -> dict[str, Any]:
    """Find out the capacity, ask for four times as much, then for half of it."""
    async with clients_of(served) as clients:
        await clients.in_turns(INFER, requests, 8, warmup / 2)
        full = await clients.in_turns(INFER, requests, 8, warmup)
        capacity = len(full) / warmup
        before = await clients.at_rate(INFER, requests, capacity / 2, warmup)
        memory = served.memory()
        asked = asyncio.create_task(clients.at_rate(INFER, requests, _TIMES * capacity, seconds))
        await asyncio.sleep(seconds)
        # Now, while those that wait are still to be answered.
        after = await clients.at_rate(INFER, requests, capacity / 2, max(warmup, 2.0))
        during = await asked
        grown = served.memory() - memory
    first = after[0].sent
    later = [answer for answer in after if answer.sent - first >= 1]
    taken = [answer for answer in during if answer.status == 200]
    refused = [answer for answer in during if answer.status == 429]
    return {
        "capacity": capacity,
        "seconds": seconds,
        "before": _times(before),
        "accepted": _times(taken),
        "refused": _times(refused),
        "neither": len(during) - len(taken) - len(refused),
        "accepted_per_second": len(taken) / (max(answer.sent for answer in during) - during[0].sent),
        "first_second_after": _times([answer for answer in after if answer.sent - first < 1]),
        "later": _times(later),
        "not_answered_later": sum(answer.status != 200 for answer in later),
        "memory_grown_mib": grown,
    }


async def replaced(
    served: Served, requests: Sequence[bytes], count: int, pause: float = 1.0
) -> dict[str, Any]:
    """Answer `count` requests while the two models take each other's place."""
    stopped = asyncio.Event()
    samples: list[tuple[float, float]] = []
    answers: list[Answer] = []
    swaps = 0

    async def swap() -> None:
        nonlocal swaps
        async with clients_of(served) as clients:
            for model in itertools.cycle(("second", "first")):
                asked = {"task": "text_classification", "model": model, "name": NAME}
                answer = await clients.ask("/endpoints", json.dumps(asked).encode())
                assert answer.status == 200, answer.body
                swaps += 1
                try:
                    await asyncio.wait_for(stopped.wait(), pause)
                    return
                except TimeoutError:
                    continue

    async def ask() -> None:
        async with clients_of(served) as clients:
            while len(answers) < count:
                part = min(max(count // 100, 1), count - len(answers))
                answers.extend(await clients.in_turns(INFER, requests, _CLIENTS, stopped, part))
                samples.append((len(answers), served.memory()))
        stopped.set()

    await asyncio.gather(ask(), swap())
    labels = [json.loads(answer.body)["labels"] for answer in answers if answer.status == 200]
    kinds = [{str(label).startswith(OTHER) for label in found} for found in labels]
    late = samples[len(samples) // 2 :]
    steep, error = slope(late) if len(late) > 10 else (0.0, 0.0)
    return {
        "requests": len(answers),
        "swaps": swaps,
        "lost": sum(answer.status != 200 for answer in answers),
        "mixed": sum(len(kind) > 1 for kind in kinds),
        "of_each": [sum(kind == {which} for kind in kinds) for which in (False, True)],
        "memory_mib": {"first": samples[0][1], "middle": late[0][1], "last": late[-1][1]},
        "mib_per_100000_requests": steep * 1e5,
        "mib_per_100000_requests_error": error * 1e5,
        "samples": samples,
    }


async def stopped(served: Served, requests: Sequence[bytes], after: float = 1.0) -> dict[str, Any]:
    """Stop a server by SIGTERM while all clients ask."""
    async with clients_of(served) as clients:
        asking = asyncio.create_task(clients.in_turns(INFER, requests, _CLIENTS, 60.0))
        await asyncio.sleep(after)
        served.process.send_signal(signal.SIGTERM)
        answers = await asking
    return {
        "answered": sum(answer.status == 200 for answer in answers),
        "lost": sum(answer.status == LOST for answer in answers),
        "refused": sum(answer.status not in (200, LOST) for answer in answers),
        "exit": await asyncio.to_thread(served.process.wait, 30),
    }


def overload_table(found: dict[str, Any]) -> str:
    """Latencies before, during and after, with how many there were."""
    rows = [
        ("half of it, before", found["before"]),
        (f"{_TIMES} x for {found['seconds']:g} s: accepted", found["accepted"]),
        (f"{_TIMES} x for {found['seconds']:g} s: refused with 429", found["refused"]),
        ("half of it, the first second after", found["first_second_after"]),
        ("half of it, later", found["later"]),
    ]
    lines = [
        [name, f"{times['count']:,}", *(f"{times[key]:.1f}" for key in ("p50", "p99", "max"))]
        for name, times in rows
    ]
    said = (
        f"Capacity: {found['capacity']:.1f} requests/s; while {_TIMES} times as many came, "
        f"{found['accepted_per_second']:.1f}/s were answered, {found['neither']} got neither an answer nor a 429, "
        f"and the memory grew by {found['memory_grown_mib']:.1f} MiB. From a second after on, "
        f"{found['not_answered_later']} were not answered."
    )
    return "\n\n".join([said, table(["of the capacity", "requests", "p50 ms", "p99 ms", "max ms"], lines)])


def replaced_table(found: dict[str, Any]) -> str:
    """What replacing the model did."""
    memory = found["memory_mib"]
    names = [
        "requests",
        "swaps",
        "lost",
        "of two models",
        "MiB, first",
        "middle",
        "last",
        "MiB per 100,000 requests",
    ]
    values = [
        f"{found['requests']:,}",
        f"{found['swaps']}",
        f"{found['lost']}",
        f"{found['mixed']}",
        *(f"{memory[name]:.1f}" for name in ("first", "middle", "last")),
        f"{found['mib_per_100000_requests']:.2f} ± {found['mib_per_100000_requests_error']:.2f}",
    ]
    return table(names, [values])


def stopped_table(found: Sequence[dict[str, Any]]) -> str:
    """What stopping it under load did."""
    rows = [
        [str(number), f"{stop['answered']:,}", str(stop["lost"]), str(stop["refused"])]
        for number, stop in enumerate(found, 1)
    ]
    return table(["stopped under load", "answered", "lost", "refused: no connection, or 503"], rows)


def _stopped_once(config: dict[str, Any], folder: Path, requests: Sequence[bytes]) -> dict[str, Any]:
    with serving(config, folder) as served:
        return asyncio.run(stopped(served, requests))


def _times(answers: Sequence[Answer]) -> dict[str, float]:
    """Milliseconds."""
    spent = [answer.seconds * 1e3 for answer in answers]
    named = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {"count": len(answers), **{name: quantile(spent, share) for name, share in named.items()}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask too much of the server.")
    parser.add_argument("model", help="a deployment folder")
    parser.add_argument("--dataset", choices=DATASETS, default="tweeteval_emotion")
    parser.add_argument("--texts", type=int, default=8, help="of each request under overload [%(default)s]")
    parser.add_argument("--seconds", type=float, default=300, help="of overload [%(default)s]")
    parser.add_argument("--requests", type=int, default=100_000, help="while models change [%(default)s]")
    parser.add_argument("--stops", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    say(f"about {arguments.seconds + 60 + arguments.requests / 250:.0f} s")
    return arguments


if __name__ == "__main__":
    raise SystemExit(run(main))
