"""A tiny deployment, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.deployment import deployment


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment folder; not to be written to."""
    return deployment(tmp_path_factory.mktemp("models") / "deployment")
