"""`--push_to_hub` against the loopback hub: what is trained, pushed and loaded by its id gives the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from sparseml.session.models import load_tokenizer, load_trained, resolve
from sparsezoo.hub_upload import PushError
from support import tiny
from support.hub import Fault, LoopbackHub

# The Hub's client sends files to its own transport in a way that this one deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TOKEN = "hf_may_write"
REPO = "team/mood"


@pytest.fixture
def writable(hub: LoopbackHub) -> LoopbackHub:
    hub.tokens.add(TOKEN)
    return hub


def train(model: Path, rows: Path, output: Path, **more: Any) -> dict[str, Any]:
    settings = {"push_to_hub": True, "hub_model_id": REPO, "hub_token": TOKEN, "do_eval": True}
    return tiny.train(model, rows, output, **(settings | more))


def pushed(hub: LoopbackHub, repo: str = REPO) -> dict[str, bytes]:
    return hub.repos["models", repo].revisions["main"]


def logits(model: Any, folder: Path | str) -> torch.Tensor:
    tokenizer = load_tokenizer(resolve(str(folder), token=TOKEN))
    with torch.no_grad():
        return model(**tokenizer(["a lovely film", "a dull song"], return_tensors="pt", padding=True)).logits


@pytest.mark.usefixtures("one_thread")
def test_train_push_and_load_by_id(
    writable: LoopbackHub,
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "out"
    train(pruned_model, rows_folder, folder, hub_private_repo=True)
    assert f"pushed: {writable.url}/{REPO}" in capfd.readouterr().err
    assert writable.repos["models", REPO].private
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert kept.pop("training_args.bin") and kept.pop("run.json")
    assert pushed(writable) == kept
    assert TOKEN not in "".join(content.decode(errors="replace") for content in pushed(writable).values())
    card = ModelCard(pushed(writable)["README.md"].decode())
    assert card.data["model_name"] == "mood" and f'model="{REPO}"' in card.text
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert torch.equal(logits(load_trained(REPO), REPO), logits(load_trained(folder), folder))


@pytest.mark.usefixtures("one_thread")
def test_a_guided_run_pushes_its_export_too(
    writable: LoopbackHub,
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Named without an owner, it is the token's own; its checkpoints stay here."""
    from sparseml.transformers import text_classification

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    recipe_args = "num_epochs=1,qat_start_epoch=0,observer_epoch=1"
    text_classification.main(
        train_file=str(rows_folder / "train.csv"),
        model_name_or_path=str(pruned_model),
        output_dir=str(tmp_path / "mood"),
        recipe_args=recipe_args,
        push_to_hub=True,
        hub_strategy="end",
    )
    names = set(pushed(writable, "me/mood"))
    assert {"README.md", "deployment/model.onnx", "summary.txt", "model.safetensors"} <= names
    assert not any("checkpoint" in name or name == "run.json" for name in names)
    assert "export and PyTorch agree" in pushed(writable, "me/mood")["README.md"].decode()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("strategy", ["every_save", "checkpoint", "all_checkpoints"])
def test_checkpoints_are_pushed_while_training(
    strategy: str, writable: LoopbackHub, pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    arguments = {"save_strategy": "epoch", "hub_strategy": strategy, "hub_always_push": True}
    train(pruned_model, rows_folder, tmp_path, save_total_limit=1, **arguments)
    commits = [request for request in writable.requests if "/commit/" in request]
    assert len(commits) == (4 if strategy == "every_save" else 7)
    names = set(pushed(writable))
    assert {"recipe.yaml", "modifiers.safetensors"} <= names
    within = {name.partition("/")[0] for name in names if name.endswith("optimizer.pt")}
    expected: dict[str, set[str]] = {"every_save": set(), "checkpoint": {"last-checkpoint"}}
    assert within == expected.get(strategy, {"checkpoint-6", "checkpoint-12", "checkpoint-18"})
    assert not any("training_args" in name for name in names)
    assert not list(tmp_path.glob(".pushing-*"))


def test_without_a_token_nothing_is_trained(
    writable: LoopbackHub, pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(PushError, match=r"hf auth login.*--hub_token"):
        train(pruned_model, rows_folder, tmp_path / "out", hub_token=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "fault", "said"),
    [
        ({"hub_token": "hf_wrong"}, None, "does not let your token write to team/mood"),
        ({"hub_model_id": "a/b/c"}, None, "is not OWNER/NAME"),
        ({}, Fault("/api/repos/create", status=502), "out of order"),
    ],
)
def test_a_refusal_is_said_before_the_training(
    more: dict[str, Any],
    fault: Fault | None,
    said: str,
    writable: LoopbackHub,
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
) -> None:
    writable.faults += [fault] if fault else []
    with pytest.raises(PushError, match=said):
        train(pruned_model, rows_folder, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("one_thread")
def test_a_model_that_cannot_be_pushed_is_kept(
    writable: LoopbackHub, pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    writable.faults.append(Fault("/commit/", status=403))
    with pytest.raises(PushError, match="hf upload team/mood"):
        train(pruned_model, rows_folder, tmp_path)
    assert (tmp_path / "model.safetensors").is_file() and (tmp_path / "README.md").is_file()
