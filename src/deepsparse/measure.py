"""Time a piece of work again and again, from one caller or from several at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PERCENTILES = (25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


@dataclass
class Timings:
    """What was measured.

    Attributes:
        seconds: of each run.
        elapsed: from the first run's begin to the last one's end.
        items: in each run.
    """

    items: int
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def items_per_second(self) -> float:
        """Throughput."""
        return self.items * len(self.seconds) / self.elapsed if self.elapsed else 0.0

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the runs' durations."""
        return float(np.percentile(self.seconds, percentile)) * 1e3

    def add(self, other: Timings) -> None:
        """Take in what was measured at another time."""
        self.seconds += other.seconds
        self.elapsed += other.elapsed

    def summary(self) -> dict[str, Any]:
        """All of it under DeepSparse's names: milliseconds, and items per second."""
        spent = np.asarray(self.seconds) * 1e3
        return {
            "items_per_sec": self.items_per_second,
            "seconds_ran": self.elapsed,
            "iterations": len(self.seconds),
            "mean": float(spent.mean()),
            "median": float(np.median(spent)),
            "std": float(spent.std()),
            **{f"{percentile:g}%": float(np.percentile(spent, percentile)) for percentile in PERCENTILES},
        }


def measure(work: Callable[[], object], seconds: float, items: int, callers: int = 1) -> Timings:
    """Repeat `work` for some seconds, at least once from each caller.

    Args:
        work: called from `callers` threads at once.
        seconds: when to begin no more.
        items: what one call does, for the throughput.

    Raises:
        Exception: whatever `work` raised first.
    """
    if callers == 1:
        return _repeat(work, seconds, items)
    results: list[Timings | BaseException] = []

    def caller() -> None:
        try:
            results.append(_repeat(work, seconds, items))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Timings(items)
    for result in results:
        if isinstance(result, BaseException):
            raise result
        total.add(result)
    total.elapsed = time.perf_counter() - begun
    return total


def _repeat(work: Callable[[], object], seconds: float, items: int) -> Timings:
    found = Timings(items)
    begun = now = time.perf_counter()
    while not found.seconds or now - begun < seconds:
        work()
        after = time.perf_counter()
        found.seconds.append(after - now)
        now = after
    found.elapsed = now - begun
    return found
