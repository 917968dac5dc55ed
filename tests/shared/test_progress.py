"""Signs of life: none for quick work, a bar for slow work, and none where nobody looks."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from resparse import progress


@pytest.mark.parametrize(
    ("patience", "terminal", "shown"), [(0.01, True, True), (9.0, True, False), (0.01, False, False)]
)
def test_bar(patience: float, terminal: bool, shown: bool, monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=screen, force_terminal=terminal))
    monkeypatch.setattr(progress, "PATIENCE", patience)
    items = []
    for item in progress.track(range(3), "counting"):
        items.append(item)
        time.sleep(0.03)
    assert items == [0, 1, 2]
    for _ in progress.track(iter(range(2)), "reading", 7):
        time.sleep(0.15)
    with progress.waiting("fetching"):
        time.sleep(0.06)
    assert ("counting" in screen.getvalue()) is shown
    assert ("1/7" in screen.getvalue()) is shown
    assert ("fetching" in screen.getvalue()) is shown
