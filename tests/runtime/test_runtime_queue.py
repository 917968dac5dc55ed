"""Micro-batching: right answers to the right callers, limits, and nothing lost at the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from deepsparse.server.queue import ClosingError, MicroBatcher, QueueFullError, TooManyError
from deepsparse.tasks.base import Row


class Numbers:
    """Answers "7" with [7]; notes the batches; may be held up."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.batches: list[list[Row]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, rows: list[Row]) -> Any:
        self.batches.append(rows)
        time.sleep(self.pause)
        assert self.free.wait(10)
        if "bad" in rows:
            raise ValueError("bad row")
        return np.array([[float(str(row))] for row in rows])


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(limited())


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_caller_gets_its_own_rows(workers: int):
    compute = Numbers(0.001)

    async def work() -> None:
        queue = MicroBatcher(compute, workers, 10_000)
        requests = [[str(100 * index + row) for row in range(index % 150)] for index in range(1, 60)]
        answers = await asyncio.gather(*(queue.submit(rows) for rows in requests))
        for rows, answer in zip(requests, answers, strict=True):
            assert answer[:, 0].tolist() == [float(row) for row in rows]
        await queue.close()

    run(work())
    assert max(map(len, compute.batches)) <= 64


def test_what_arrives_while_busy_is_computed_together():
    compute = Numbers()
    compute.free.clear()

    async def work() -> None:
        queue = MicroBatcher(compute, 1, 100)
        first = asyncio.create_task(queue.submit(["0"]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(queue.submit([str(index)])) for index in range(1, 20)]
        await asyncio.sleep(0.05)
        assert queue.waiting == 19
        compute.free.set()
        await asyncio.gather(first, *others)
        await queue.close()

    run(work())
    assert [len(batch) for batch in compute.batches] == [1, 19]


def test_idle_workers_share_what_arrives_together():
    compute = Numbers(0.01)

    async def work() -> None:
        queue = MicroBatcher(compute, 2, 100)
        await asyncio.gather(*(queue.submit([str(index)]) for index in range(10)))
        await queue.close()

    run(work())
    assert sorted(len(batch) for batch in compute.batches) == [5, 5]


def test_limits():
    compute = Numbers()
    compute.free.clear()

    async def work() -> None:
        queue = MicroBatcher(compute, 1, 3)
        with pytest.raises(TooManyError, match="4 texts"):
            await queue.submit(["1"] * 4)
        running = asyncio.create_task(queue.submit(["1"]))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(queue.submit(["2", "3"]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError) as caught:
            await queue.submit(["4", "5"])
        assert caught.value.retry_after >= 1
        compute.free.set()
        assert len(await running) + len(await waiting) == 3
        assert (await queue.submit(["4", "5"])).tolist() == [[4.0], [5.0]]
        await queue.close()

    run(work())


def test_an_error_reaches_its_callers_and_the_queue_goes_on():
    async def work() -> None:
        queue = MicroBatcher(Numbers(), 1, 100)
        with pytest.raises(ValueError, match="bad row"):
            await queue.submit(["bad"])
        assert (await queue.submit(["7"])).tolist() == [[7.0]]
        await queue.close()

    run(work())


def test_closing_finishes_what_was_taken_and_takes_nothing_new():
    compute = Numbers()
    compute.free.clear()

    async def work() -> None:
        queue = MicroBatcher(compute, 1, 100)
        taken = [asyncio.create_task(queue.submit([str(index)])) for index in range(5)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(queue.close())
        await asyncio.sleep(0)
        with pytest.raises(ClosingError):
            await queue.submit(["9"])
        compute.free.set()
        await closing
        assert [float(answer[0, 0]) for answer in await asyncio.gather(*taken)] == [0, 1, 2, 3, 4]

    run(work())


def test_a_caller_who_left_is_not_computed_for():
    compute = Numbers()
    compute.free.clear()

    async def work() -> None:
        queue = MicroBatcher(compute, 1, 100)
        first = asyncio.create_task(queue.submit(["1"]))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(queue.submit(["2"]))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        compute.free.set()
        await first
        await queue.close()

    run(work())
    assert compute.batches == [["1"]]
