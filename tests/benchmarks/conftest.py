"""The benchmarks import one another as programs in one folder do."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the benchmarks' modules importable."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
