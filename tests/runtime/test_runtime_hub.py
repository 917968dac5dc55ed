"""Exported models by the name of a Hub repository, from the loopback hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepsparse import Pipeline
from resparse.errors import UserError
from support.deployment import deployment
from support.hub import Fault, LoopbackHub

REPO = "owner/exported"


@pytest.fixture
def filled(hub: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    folder = deployment(tmp_path / "deployment")
    hub.add(REPO, {path.name: path.read_bytes() for path in folder.iterdir()})
    return hub


def test_a_pipeline_from_the_hub_and_again_without_it(
    filled: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Pipeline.create("text_classification", f"hf:{REPO}")("happy").labels == ["joy"]
    filled.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert Pipeline.create("text_classification", f"hf:{REPO}")("sad").labels == ["sadness"]
    assert filled.requests == []


def test_a_damaged_model_never_runs(filled: LoopbackHub) -> None:
    filled.faults.append(Fault("/cdn/", corrupt=True))
    with pytest.raises(UserError, match=f"model.onnx from .* {REPO} arrived damaged"):
        Pipeline.create("text_classification", f"hf:{REPO}")


def test_a_missing_model_is_said_to_be_missing(filled: LoopbackHub) -> None:
    with pytest.raises(UserError, match=r"repository owner/nothing.* is private or does not exist"):
        Pipeline.create("text_classification", "hf:owner/nothing")
