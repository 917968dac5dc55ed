"""A start with a classifier of its own, trained on classes with other names, or in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Labels
from sparseml.session.heads import match_head
from sparseml.session.models import Loaded, load_model, resolve
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")

THEIRS = ("joy", "anger", "fear")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("heads") / "start", names=THEIRS)


def matched(
    start: Path, ours: tuple[str, ...], theirs: tuple[str, ...] = THEIRS, kind: Any = SINGLE
) -> Loaded:
    loaded = load_model(resolve(str(start)), AutoModelForSequenceClassification)
    torch.manual_seed(0)
    match_head(loaded, Labels(SINGLE, theirs), Labels(kind, ours))
    return loaded


def outputs(loaded: Loaded) -> torch.Tensor:
    tokens = torch.tensor([[2, 5, 9, 3], [2, 11, 12, 3]])
    with torch.no_grad():
        logits: torch.Tensor = loaded.model.eval()(tokens).logits
    return logits


def test_the_same_classes_are_left_alone(start: Path) -> None:
    loaded = matched(start, THEIRS)
    assert (loaded.new, loaded.notes) == ([], [])
    assert torch.equal(outputs(loaded), outputs(matched(start, ("Joy", "Anger", "Fear"))))


def test_another_order_permutes_the_outputs(start: Path) -> None:
    loaded, ours = matched(start, ("anger", "fear", "joy")), [1, 2, 0]
    torch.testing.assert_close(outputs(loaded), outputs(matched(start, THEIRS))[:, ours])
    assert not loaded.new and "put in our order" in loaded.notes[0]


def test_other_classes_get_a_new_layer(start: Path) -> None:
    loaded = matched(start, ("sport", "trade", "world"))
    assert loaded.new == ["classifier.weight", "classifier.bias"]
    assert "the start's classes are others (joy, anger, fear, not sport, trade, world)" in loaded.notes[0]
    weight = load_file(start / "model.safetensors")["classifier.weight"]
    assert not torch.isclose(loaded.model.classifier.weight, weight).any()
    assert not loaded.model.classifier.bias.any()


def test_classes_without_names_are_kept_and_told(start: Path) -> None:
    loaded = matched(start, ("sport", "trade", "world"), theirs=("LABEL_0", "LABEL_1", "LABEL_2"))
    assert torch.equal(outputs(loaded), outputs(matched(start, THEIRS)))
    assert not loaded.new and "have no names" in loaded.notes[0]


@pytest.mark.parametrize("kind", [MULTI, REGRESSION])
def test_another_kind_is_no_matter_of_names(start: Path, kind: Any) -> None:
    assert not matched(start, THEIRS if kind == MULTI else ("score",), kind=kind).new


def test_the_command_says_so(rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a start of the same classes in another order begins as well as it ended."""
    turned = tiny.bert(tmp_path / "turned", names=("positive", "negative"))
    recipe = {"recipe": None, "num_train_epochs": 1, "learning_rate": 0.0}
    train(turned, rows_folder, tmp_path / "run", **recipe)
    assert "put in our order" in capsys.readouterr().err
    first, last = (load_file(folder / "model.safetensors") for folder in (turned, tmp_path / "run"))
    assert torch.equal(first["classifier.weight"].flip(0), last["classifier.weight"])
    assert AutoConfig.from_pretrained(tmp_path / "run").id2label == {0: "negative", 1: "positive"}
    other = tiny.bert(tmp_path / "other", names=("spam", "ham"))
    train(other, rows_folder, tmp_path / "run-2", **recipe)
    assert "classes are others (spam, ham, not negative, positive)" in " ".join(
        capsys.readouterr().err.split()
    )
