"""Fixtures that all tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub import LoopbackHub


@pytest.fixture
def zoo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for the zoo, and caches of this test's own."""
    home = tmp_path / "zoo"
    monkeypatch.setenv("SPARSEZOO_HOME", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface" / "hub"))
    return home


@pytest.fixture
def hub(zoo_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hugging Face Hub on loopback, which this process's `sparsezoo` uses; see `support.hub`."""
    with LoopbackHub() as running:
        for name, value in running.environment(zoo_home.parent).items():
            monkeypatch.setenv(name, value)
        yield running
    if client := sys.modules.get("huggingface_hub"):
        client.close_session()
