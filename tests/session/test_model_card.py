"""The model card of a trained folder, as the Hub's own client reads it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from sparseml import model_card
from sparseml.model_card.card import card
from sparseml.model_card.origin import Origin, origin_of
from support import tiny

STATED = "---\nlicense: mit\nlanguage: [en, de]\nbase_model: owner/dense\n---\n\n# A start\n"
ZOO = "zoo:nlp/masked_language_modeling/bert-base/pytorch/huggingface/wikipedia_bookcorpus/"


def short(**more: Any) -> model_card.Subject:
    """A subject of what every report has, without data, labels, recipe or a task that the Hub knows."""
    report = {
        "totals": {
            "parameters": 30,
            "prunable_sparsity": 0.0,
            "quantized_layers": 0,
            "quantizable_layers": 1,
            "dense_bytes": 120,
            "compressed_bytes": 60,
        },
        "layers": [{"name": "a.0.b", "shape": [2, 3], "sparsity": 0.5, "weight_bits": 32}],
        "model": {"architecture": "bert"},
        "metrics": {},
        "command": [],
        "versions": {"python": "3"},
    }
    return model_card.Subject(
        **{
            "name": "m",
            "address": "m",
            "usage": [],
            "pipeline_tag": None,
            "report": report,
            "data_name": "d",
            **more,
        }
    )


@pytest.fixture(scope="module")
def trained(
    pruned_model: Path, rows_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    start = tmp_path_factory.mktemp("start") / "model"
    shutil.copytree(pruned_model, start)
    (start / "README.md").write_text(STATED)
    folder = tmp_path_factory.mktemp("trained") / "mood"
    return folder, tiny.train(start, rows_folder, folder, do_eval=True)


def test_the_hub_reads_what_it_shows(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, report = trained
    data = ModelCard.load(folder / "README.md").data.to_dict()
    assert (data["license"], data["base_model"], data["language"]) == ("mit", "owner/dense", ["en", "de"])
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-classification")
    assert {"sparse", "int8"} <= set(data["tags"])
    (result,) = data["model-index"][0]["results"]
    values = {entry["name"]: entry["value"] for entry in result["metrics"]}
    assert values["accuracy"] == pytest.approx(report["metrics"]["eval_accuracy"], abs=1e-4)
    assert result["dataset"]["split"] == "validation"


def test_the_text_tells_how_it_was_made_and_used(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, report = trained
    text = (folder / "README.md").read_text()
    assert (folder / "recipe.yaml").read_text().strip() in text
    for part in (
        "deepsparse.server",
        "from transformers import pipeline",
        "--max_seq_length 32",
        "`positive`",
    ):
        assert part in text
    assert f"{report['totals']['prunable_sparsity']:.1%}" in text
    assert "| `bert.encoder.layer.*.output.dense` | 2 |" in text


def test_a_training_renews_its_own_card_and_leaves_a_users(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "README.md"
    again = {"overwrite_output_dir": True, "recipe_args": "num_epochs=1,qat_start_epoch=0,observer_epoch=0"}
    tiny.train(pruned_model, rows_folder, tmp_path, **again)
    first = card.read_text()
    tiny.train(pruned_model, rows_folder, tmp_path, seed=7, **again)
    assert card.read_text() != first and "--seed 7" in card.read_text()
    edited = card.read_text().replace("A text classifier", "My text classifier")
    card.write_text(edited)
    tiny.train(pruned_model, rows_folder, tmp_path, seed=8, **again)
    assert card.read_text() == edited and "stays" in capfd.readouterr().err


def test_a_model_of_any_task_has_a_card(tmp_path: Path) -> None:
    assert model_card.write(tmp_path, short())
    data = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert data == {"library_name": "transformers", "tags": ["resparse"]}
    fill = short(pipeline_tag="fill-mask", datasets=("owner/corpus",))
    assert model_card.write(tmp_path, fill)
    assert ModelCard.load(tmp_path / "README.md").data.datasets == ["owner/corpus"]
    assert "A masked language model" in (tmp_path / "README.md").read_text()


def test_a_foreign_card_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine")
    assert not model_card.write(tmp_path, short())
    assert (tmp_path / "README.md").read_text() == "# Mine"


@pytest.mark.parametrize(
    ("called", "card", "expected"),
    [
        ("owner/model", "", Origin("owner/model")),
        ("owner/model", STATED, Origin("owner/model", "mit", ("en", "de"))),
        (f"{ZOO}base-none", "", Origin("google-bert/bert-base-uncased", "apache-2.0")),
        ("HERE", STATED, Origin("owner/dense", "mit", ("en", "de"))),
        ("HERE", "---\nlicense: [\n---\n", Origin()),
        ("HERE", "---\nbase_model: [a/b, c/d]\n---\n", Origin("a/b")),
    ],
)
def test_what_is_stated_of_a_start(called: str, card: str, expected: Origin, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert origin_of(str(tmp_path) if called == "HERE" else called, tmp_path) == expected


@pytest.mark.parametrize("alone", [True, False])
def test_transformers_alone_is_named_where_it_reads_the_same(alone: bool) -> None:
    subject = short(pipeline_tag="text-classification")
    subject.report["model"]["loads_alone"] = alone  # type: ignore[index]
    content = card(subject)
    assert ("from transformers import pipeline" in content) == alone
    assert ("Not with Transformers alone" in content) == (not alone)
