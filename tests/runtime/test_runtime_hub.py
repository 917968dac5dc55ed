"""Exported models by the name of a Hub repository, from the loopback hub; pushed there by `deepsparse.push`."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from deepsparse import Pipeline
from deepsparse.push import main
from resparse.errors import UserError
from support.deployment import deployment
from support.hub import Fault, LoopbackHub

REPO = "owner/exported"
TOKEN = "hf_may_write"
# The Hub's client sends files to its own transport in a way that this one deprecates.
CLIENTS_WARNING = "ignore:Use 'content=:DeprecationWarning"


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


def test_a_deployment_within_a_trainings_repository(hub: LoopbackHub, tmp_path: Path) -> None:
    folder = deployment(tmp_path / "deployment")
    inner = {f"deployment/{path.name}": path.read_bytes() for path in folder.iterdir()}
    hub.add(REPO, {"model.safetensors": b"of the training", "config.json": b"{}", **inner})
    assert Pipeline.create("text_classification", f"hf:{REPO}")("happy").labels == ["joy"]
    hub.requests.clear()
    assert Pipeline.create("text_classification", f"hf:{REPO}")("sad").labels == ["sadness"]
    assert not any("/cdn/" in request or "resolve" in request for request in hub.requests)


@pytest.fixture
def writable(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    hub.tokens.add(TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.mark.filterwarnings(CLIENTS_WARNING)
def test_pushed_and_loaded_by_its_name(
    writable: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = deployment(tmp_path / "deployment")
    (folder / ".secret").write_text("of this machine")
    assert main([str(folder), "team/mood", "--hub-private-repo"]) == 0
    assert f"pushed: {writable.url}/team/mood" in capsys.readouterr().err
    repo = writable.repos["models", "team/mood"]
    pushed = dict(repo.revisions["main"])
    assert repo.private
    card = ModelCard(pushed.pop("README.md").decode())
    assert card.data.pipeline_tag == "text-classification" and "onnx" in card.data.tags
    assert 'model_path="hf:team/mood"' in card.text and "`joy`" in card.text
    assert pushed == {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")
    }
    assert Pipeline.create(model_path="hf:team/mood")("happy").labels == ["joy"]
    assert not (folder / "README.md").exists()


@pytest.mark.filterwarnings(CLIENTS_WARNING)
def test_a_card_of_somebody_elses_stays(writable: LoopbackHub, tmp_path: Path) -> None:
    folder = deployment(tmp_path / "deployment")
    writable.add("me/mood", {"README.md": b"mine"})
    assert main([str(folder), "--hub-model-id", "mood"]) == 0
    assert writable.repos["models", "me/mood"].revisions["main"]["README.md"] == b"mine"


@pytest.mark.filterwarnings(CLIENTS_WARNING)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("token", r"does not let your token write to team/mood \(401\)"),
        ("no token", "hf auth login"),
        ("offline", "switched off"),
        ("model", "model.onnx"),
        ("commit", "hf upload team/mood"),
    ],
)
def test_what_cannot_be_pushed(
    writable: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, said: str
) -> None:
    folder = deployment(tmp_path / "deployment")
    if change == "token":
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    elif change == "no token":
        monkeypatch.delenv("HF_TOKEN")
    elif change == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    elif change == "model":
        (folder / "model.onnx").write_bytes(b"no model")
    else:
        writable.faults.append(Fault("/commit/", status=403))
    with pytest.raises(UserError, match=said):
        main([str(folder), "team/mood"])
    held = writable.repos.get(("models", "team/mood"))
    assert held is None or not held.revisions["main"]
