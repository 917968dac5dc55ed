"""Models and teachers given by a Hub id or a stub, from the loopback hub: fetched, checked, kept, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

from sparseml.cli import main
from sparseml.session.models import load_config, load_model, load_tokenizer, resolve
from sparsezoo import ZooError
from sparsezoo.hub_repo import UnreachableError
from support import tiny
from support.hub import Fault, LoopbackHub

MODEL, TEACHER = "owner/model", "owner/teacher"


@pytest.fixture(scope="session")
def teacher_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files(tiny.bert(tmp_path_factory.mktemp("teacher"), names=["negative", "positive"], seed=1))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def filled(hub: LoopbackHub, pruned_model: Path, teacher_files: dict[str, bytes]) -> LoopbackHub:
    hub.tokens.add("good")
    hub.add(MODEL, files(pruned_model))
    hub.add(TEACHER, teacher_files, private=True)
    return hub


@pytest.mark.slow
def test_a_model_and_its_teacher_by_hub_id(
    filled: LoopbackHub, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {
        "distill_teacher": TEACHER,
        "recipe": tiny.RECIPE + tiny.DISTILLATION,
        "recipe_args": "num_epochs=1,qat_start_epoch=0,observer_epoch=0",
        "token": "good",
    }
    first = tiny.train(Path(MODEL), rows_folder, tmp_path / "first", **arguments)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    filled.requests.clear()
    again = tiny.train(Path(MODEL), rows_folder, tmp_path / "again", **arguments)
    assert filled.requests == []
    assert first["totals"] == again["totals"]
    assert first["totals"]["prunable_sparsity"] > 0.5


def test_configuration_and_tokenizer_of_another_model_bring_no_weights(filled: LoopbackHub) -> None:
    source = resolve(TEACHER, token="good", weights=False)
    assert load_config(source).num_labels == 2
    assert len(load_tokenizer(source)) == len(tiny.SPECIAL) + len(tiny.WORDS)
    assert not any("/cdn/" in request for request in filled.requests)


def test_a_revision_of_a_hub_id(filled: LoopbackHub, teacher_files: dict[str, bytes]) -> None:
    filled.add(MODEL, teacher_files, revision="v1")
    assert load_model(resolve(MODEL, "v1"), AutoModelForSequenceClassification).new == []
    assert load_model(resolve(MODEL), AutoModelForSequenceClassification).new != []


def test_a_renamed_model_is_followed(filled: LoopbackHub) -> None:
    filled.add("old/name", {}, renamed_to=MODEL)
    assert load_config(resolve("old/name")).hidden_size == 32


def test_a_cache_of_the_users_own(filled: LoopbackHub, tmp_path: Path) -> None:
    source = resolve(MODEL, cache_dir=str(tmp_path / "mine"))
    assert source.folder.is_relative_to(tmp_path / "mine")


def test_a_damaged_model_is_refused(filled: LoopbackHub) -> None:
    filled.faults.append(Fault("/cdn/", corrupt=True))
    with pytest.raises(ZooError, match=f"model.safetensors from .* {MODEL} arrived damaged"):
        resolve(MODEL)
    filled.faults.clear()
    assert resolve(MODEL).folder.is_dir()


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("owner/missing", None, "is private or does not exist"),
        (TEACHER, None, "is private or does not exist"),
        (MODEL, 403, "is closed to you"),
        (MODEL, 429, "too often from here .429.. Try again in 900 seconds"),
        (MODEL, 502, "out of order .502."),
    ],
)
def test_a_refusal_is_one_line_that_names_the_repository(
    filled: LoopbackHub, name: str, status: int | None, said: str
) -> None:
    if status:
        filled.faults.append(Fault("/api/", status=status, headers={"Retry-After": "900"}))
    with pytest.raises(ZooError, match=f"repository {name}, for {name}.*{said}") as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_no_network_and_no_copy(filled: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=f"{MODEL}.*cannot be reached") as caught:
        resolve(MODEL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("owner/missing", "owner/missing"),
        (
            "zoo:nlp/sentiment_analysis/obert-base/pytorch/huggingface/sst2/pruned90_quant-none",
            "Train them with",
        ),
        (
            "zoo:nlp/masked_language_modeling/obert/pytorch/huggingface/wiki/pruned90-none",
            "Nearest: zoo:nlp/",
        ),
    ],
)
def test_the_command_ends_with_that_line(
    filled: LoopbackHub,
    rows_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    model: str,
    said: str,
) -> None:
    data = ["--train_file", f"{rows_folder}/train.csv", "--validation_file", f"{rows_folder}/validation.csv"]
    words = [
        "train",
        "--do_train",
        "--model_name_or_path",
        model,
        *data,
        "--output_dir",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert model in last
    assert said in last
    assert not (tmp_path / "out").exists()
