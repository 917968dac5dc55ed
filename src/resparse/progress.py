"""Progress bars that appear after two seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from resparse.console import console

PATIENCE = 2.0

Item = TypeVar("Item")


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A bar for work of unknown length."""
    with _bar(TimeElapsedColumn()) as bar:
        bar.add_task(what, total=None)
        yield


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar; of unknown length where neither the items have one nor a `total` is given."""
    with _bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        length = len(items) if isinstance(items, Sized) else total
        task = bar.add_task(what, total=length)
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def share(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for a part of `total`: yields a function that takes how much is done."""
    with _bar(TaskProgressColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def _bar(*columns: ProgressColumn) -> Iterator[Progress]:
    shown = (TextColumn("{task.description}"), BarColumn(), *columns)
    bar = Progress(*shown, console=console, transient=True, disable=not console.is_terminal)
    timer = threading.Timer(PATIENCE, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield bar
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
