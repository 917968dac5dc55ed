"""`sparseml sparsify`: what it understands, what it chooses, and the whole way to a start for transfer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resparse.errors import UserError
from sparseml import sparsify
from sparseml.new_recipe import plain_text
from sparseml.new_recipe.plain_text import encoder_sparsity
from sparseml.recipe import load_plan
from sparseml.session.models import Source
from sparseml.session.session import Session
from sparseml.sparsify import Request, choose, parse, training_flags
from support import encoders, tiny

ZOO = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers"


def test_the_command_line_is_split_into_ours_and_the_trainings() -> None:
    words = [
        "models/bert",
        "--corpus=a.txt,b.txt",
        "--seed",
        "3",
        "--sparsity",
        "0.9",
        "--mask-type",
        "2:4",
        "--bf16",
    ]
    request = parse(words)
    assert request == Request("models/bert", "a.txt,b.txt", 0.9, "2:4", more=("--seed", "3", "--bf16"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--corpus", "a.txt"], "MODEL comes first"),
        (["bert"], "--corpus is missing"),
        (["bert", "--corpus", "a.txt", "--sparsity", "1"], r"--sparsity 1: it must lie above 0 and below 1"),
        (["bert", "--corpus", "a.txt", "--minutes", "0"], r"--minutes 0"),
        (["bert", "--corpus", "a.txt", "--minutes", "5", "--tokens", "1e6"], "leave one out"),
        (["bert", "--corpus", "a.txt", "--sparsity", "much"], "--sparsity 'much'"),
    ],
)
def test_what_is_refused(words: list[str], text: str) -> None:
    with pytest.raises(UserError, match=text):
        parse(words)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_the_sparsity_of_a_start_is_that_of_its_layers(tmp_path: Path, sparsity: float) -> None:
    folder = tiny.bert(tmp_path / "bert", sparsity=sparsity)
    assert encoder_sparsity(Source("bert", folder)) == pytest.approx(sparsity, abs=0.02)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_the_sparsity_of_a_start_is_that_of_what_the_recipe_prunes(tmp_path: Path, architecture: str) -> None:
    model = encoders.dense(architecture)
    arguments = {"sparsity": 0.7, "init_sparsity": 0.0}
    Session(load_plan(plain_text.PRUNE, arguments), model).apply_once()
    model.save_pretrained(tmp_path / "pruned")
    assert encoder_sparsity(Source("it", tmp_path / "pruned")) == pytest.approx(0.7, abs=1e-3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of one known speed, and a corpus of one known size."""
    monkeypatch.setattr(sparsify, "seconds_per_step", lambda *_: 0.5)
    monkeypatch.setattr(sparsify, "corpus_tokens", lambda *_: 1_000_000)


@pytest.mark.usefixtures("quick")
def test_a_dense_model_is_pruned_and_teaches_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tiny.bert(tmp_path / "bert", sparsity=0.0)
    chosen = choose(Request(str(folder), "a.txt", minutes=30))
    assert (chosen.adapts, chosen.sparsity, chosen.teacher) == (False, 0.8, "self")
    assert chosen.steps == 30 * 60 / 0.5 and chosen.output_dir == "bert-pruned80"
    assert chosen.epochs == pytest.approx(chosen.steps * chosen.rows * chosen.length / 1e6, rel=1e-3)
    assert chosen.recipe_args["init_sparsity"] == 0.5
    flags = training_flags(Request(str(folder), "a.txt", more=("--seed", "3")), chosen)
    assert flags[flags.index("--train_file") + 1] == "a.txt" and flags[-2:] == ["--seed", "3"]


@pytest.mark.usefixtures("quick")
def test_a_sparse_model_keeps_its_zeros(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "bert", sparsity=0.8)
    with pytest.raises(UserError, match="give --teacher"):
        choose(Request(str(folder), "a.txt"))
    chosen = choose(Request(str(folder), "a.txt", teacher="dense", tokens=2e6))
    assert chosen.adapts and chosen.teacher == "dense" and chosen.recipe == plain_text.ADAPT
    assert "sparsity" not in chosen.recipe_args and chosen.epochs == 2
    hotter = choose(Request(str(folder), "a.txt", teacher="dense", tokens=2e6, recipe_args="init_lr=7e-4"))
    assert hotter.recipe_args == {"num_epochs": 2, "init_lr": 7e-4}
    sparser = choose(Request(str(folder), "a.txt", sparsity=0.9, teacher="dense"))
    assert not sparser.adapts and sparser.recipe_args["init_sparsity"] == pytest.approx(0.8, abs=0.02)


def test_it_is_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would time themselves, and choose two lengths."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="give the command that it prints to torchrun"):
        sparsify.main([str(tmp_path), "--corpus", "a.txt"])


def test_the_zoos_sparse_model_learns_from_its_dense_original() -> None:
    assert plain_text.teacher_of(f"{ZOO}/pruned80-none", True) == f"{ZOO}/base-none"


@pytest.mark.usefixtures("quick")
def test_too_short_a_run_is_refused(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "bert", sparsity=0.0)
    with pytest.raises(UserError, match="too few to learn from"):
        choose(Request(str(folder), "a.txt", tokens=1000))


@pytest.mark.usefixtures("quick")
def test_the_same_request_is_answered_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped run goes on with the choices that it began with, whatever the machine's speed is now."""
    folder = tiny.bert(tmp_path / "bert", sparsity=0.0)
    request = Request(str(folder), "a.txt", output_dir=str(tmp_path / "out"))
    first = choose(request)
    sparsify._remember(request, first)
    monkeypatch.setattr(sparsify, "seconds_per_step", lambda *_: 0.1)
    assert choose(request) == first
    other: Any = Request(str(folder), "b.txt", output_dir=str(tmp_path / "out"))
    assert choose(other) != first
