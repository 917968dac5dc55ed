"""Micro-batching: requests that arrive while all workers are busy are computed together.

A request that finds an idle worker starts at once: none is delayed to fill a batch.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from deepsparse.errors import DeepsparseError
from deepsparse.tasks.base import Row

# Longer requests are split into pieces of this many texts: workers share them, and other requests are not held up.
_PIECE = 64
_LONGEST_PAUSE_S = 60


class QueueFullError(DeepsparseError):
    """The queue is full; it should have room in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyError(DeepsparseError):
    """A request with more texts than the queue's capacity."""


class ClosingError(DeepsparseError):
    """The server is stopping."""


class Answers(Protocol):
    """What is computed for some rows, in their order: `Outputs`, or an array of (rows, ...)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


@dataclass(frozen=True)
class _Piece:
    rows: Sequence[Row]
    answer: asyncio.Future[Any]


class MicroBatcher:
    """Rows of many callers, computed in common batches.

    It belongs to one event loop; the computing happens in threads.

    Args:
        compute: rows to answers.
        workers: batches computed side by side.
        capacity: rows that may wait.
        longest_wait: seconds that new rows may have to wait for their turn, by the time that others took.
        on_batch: called with the number of rows of each batch.
        concatenate: joins the answers to the pieces of a request.

    Attributes:
        waiting: rows in the queue.
    """

    def __init__(
        self,
        compute: Callable[[list[Row]], Answers],
        workers: int,
        capacity: int,
        longest_wait: float = math.inf,
        on_batch: Callable[[int], None] = lambda rows: None,
        concatenate: Callable[[list[Any]], Any] = np.concatenate,
    ) -> None:
        self._compute = compute
        self._concatenate = concatenate
        self._capacity = capacity
        self._longest_wait = longest_wait
        self._on_batch = on_batch
        self._threads = ThreadPoolExecutor(workers, "batch")
        self._idle = workers
        self._workers = workers
        self._pieces: deque[_Piece] = deque()
        self.waiting = 0
        self._scheduled = False
        self._closing = False
        self._all_done = asyncio.Event()
        self._seconds_per_row = 0.0

    async def submit(self, rows: Sequence[Row]) -> Any:
        """Wait for the answers to rows, in their order.

        Raises:
            QueueFullError: the queue has no room now.
            TooManyError: more rows than the capacity.
            ClosingError: the queue is closed.
        """
        if self._closing:
            raise ClosingError("The server is stopping and takes nothing new.")
        if len(rows) > self._capacity:
            raise TooManyError(
                f"{len(rows):,} texts in one request; {self._capacity:,} may wait at a time. Send fewer at once."
            )
        seconds = self.waiting * self._seconds_per_row / self._workers
        if self.waiting + len(rows) > self._capacity or seconds > self._longest_wait:
            raise QueueFullError(
                f"{self.waiting:,} texts wait already, which takes {seconds:.1f} s; {self._capacity:,} may, or as many "
                f"as take {self._longest_wait:g} s. Try again later.",
                retry_after=min(max(math.ceil(seconds), 1), _LONGEST_PAUSE_S),
            )
        loop = asyncio.get_running_loop()
        pieces = [
            _Piece(rows[start : start + _PIECE], loop.create_future())
            for start in range(0, len(rows), _PIECE)
        ]
        self._pieces.extend(pieces)
        self.waiting += len(rows)
        if not self._scheduled:
            # Runs after the callbacks that are ready now, so that requests that arrived together share a batch.
            self._scheduled = True
            loop.call_soon(self._dispatch)
        answers = await asyncio.gather(*(piece.answer for piece in pieces))
        return answers[0] if len(answers) == 1 else self._concatenate(answers)

    async def close(self) -> None:
        """Refuse new requests, answer the accepted ones, and stop the threads."""
        self._closing = True
        if self._pieces or self._idle < self._workers:
            await self._all_done.wait()
        self._threads.shutdown()

    def _dispatch(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        while self._idle and self._pieces:
            pieces = self._take()
            rows = [row for piece in pieces for row in piece.rows]
            if not rows:
                continue
            self._idle -= 1
            self._on_batch(len(rows))
            running = loop.run_in_executor(self._threads, self._computed, rows)
            running.add_done_callback(partial(self._finish, pieces, len(rows), time.perf_counter()))
        if self._closing and not self._pieces and self._idle == self._workers:
            self._all_done.set()

    def _computed(self, rows: list[Row]) -> Answers:
        answers = self._compute(rows)
        if len(answers) != len(rows):
            raise ValueError(f"{len(answers)} answers to {len(rows)} texts")
        return answers

    def _take(self) -> list[_Piece]:
        """The next pieces: a fair share for each idle worker, in the order of arrival."""
        share = max(math.ceil(self.waiting / self._idle), 1)
        taken: list[_Piece] = []
        count = 0
        while self._pieces and (not taken or count + len(self._pieces[0].rows) <= min(share, _PIECE)):
            piece = self._pieces.popleft()
            self.waiting -= len(piece.rows)
            if not piece.answer.cancelled():
                taken.append(piece)
                count += len(piece.rows)
        return taken

    def _finish(self, pieces: list[_Piece], count: int, started: float, done: asyncio.Future[Any]) -> None:
        self._idle += 1
        error = done.exception()
        if error is None:
            answers, start = done.result(), 0
            # Exponential average over about ten batches.
            spent = (time.perf_counter() - started) / count
            self._seconds_per_row += 0.1 * (spent - self._seconds_per_row)
            for piece in pieces:
                part = answers[start : start + len(piece.rows)]
                start += len(piece.rows)
                if not piece.answer.done():
                    piece.answer.set_result(part)
        else:
            for piece in pieces:
                if not piece.answer.done():
                    piece.answer.set_exception(error)
        self._dispatch()
