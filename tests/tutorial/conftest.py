"""One reader's walk through the tutorial, for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import tutorial, tutorial_docs, tutorial_hub
from support.hub import LoopbackHub

BOUNDS = {"RESPARSE_MAX_ROWS": "36", "RESPARSE_MAX_STEPS": "1"}


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A Hub with all that the tutorial takes from it."""
    with LoopbackHub() as running:
        tutorial_hub.fill(running, tmp_path_factory.mktemp("made"))
        yield running


@pytest.fixture(scope="session")
def walk(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> tutorial.Walk:
    """A reader in an empty folder, who runs the documented line before the last block that needs it."""
    blocks = tutorial.needed()
    home = tmp_path_factory.mktemp("reader")
    (home / "folder").mkdir()
    last = {tutorial.loaded(block): block.number for block in blocks if tutorial.loaded(block)}
    lines = {last[name]: line for name, line in tutorial_docs.lines_before().items() if name in last}
    environment = {**hub.environment(home), **BOUNDS, "OMP_NUM_THREADS": "1"}
    return tutorial.Walk(blocks, home / "folder", environment, lines)
