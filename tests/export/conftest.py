"""A classifier that was trained and quantized by the real command, once for all tests of exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import tiny


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished quantization-aware training of a pruned BERT; not to be changed."""
    place = tmp_path_factory.mktemp("trained")
    tiny.write(place / "train.csv", tiny.rows(64))
    tiny.write(place / "validation.csv", tiny.rows(48, seed=1))
    tiny.train(tiny.bert(place / "start"), place, place / "model", do_eval=True)
    return place / "model"
