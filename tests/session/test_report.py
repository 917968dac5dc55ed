"""The report of a run against a recount from the files that the run left."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import sparseml.report as reports
from resparse.console import console
from sparseml.recipe import load_plan
from sparseml.session.models import load_trained
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(pruned_model: Path, rows_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    train(pruned_model, rows_folder, folder, do_eval=True)
    return folder


@pytest.fixture(scope="module")
def report(finished: Path) -> Any:
    return json.loads((finished / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def weights(finished: Path) -> dict[str, torch.Tensor]:
    return load_file(finished / "model.safetensors")


def test_folder_is_one_that_transformers_loads(finished: Path, weights: dict[str, torch.Tensor]) -> None:
    model, info = AutoModelForSequenceClassification.from_pretrained(finished, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(model.bert.encoder.layer[0].output.dense) is torch.nn.Linear
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.problem_type == "single_label_classification"
    assert AutoTokenizer.from_pretrained(finished).tokenize("a lovely film") == ["a", "lovely", "film"]


def test_zeros_of_the_start_are_in_the_file(pruned_model: Path, weights: dict[str, torch.Tensor]) -> None:
    start = load_file(pruned_model / "model.safetensors")
    held = [name for name, value in start.items() if "encoder" in name and value.dim() == 2]
    assert len(held) == 12
    for name in held:
        assert torch.equal(weights[f"bert.{name}"] == 0, start[name] == 0)
        assert not torch.equal(weights[f"bert.{name}"], start[name])


def test_recipe_reads_back_to_the_same_plan(finished: Path) -> None:
    asked, kept = load_plan(tiny.RECIPE), load_plan(finished / "recipe.yaml")
    assert [(spec.tag, spec.fields) for spec in kept.modifiers] == [
        (s.tag, s.fields) for s in asked.modifiers
    ]


def test_every_linear_and_embedding_is_listed(report: Any, weights: dict[str, torch.Tensor]) -> None:
    listed = {layer["name"]: layer for layer in report["layers"]}
    matrices = {
        name.removesuffix(".weight"): value
        for name, value in weights.items()
        if value.dim() == 2 and name.endswith(".weight")
    }
    assert listed.keys() == matrices.keys()
    for name, value in matrices.items():
        assert listed[name]["shape"] == list(value.shape)
        assert listed[name]["sparsity"] == pytest.approx(float((value == 0).double().mean()), abs=1e-6)
        assert listed[name]["weight_bits"] == 8
        assert listed[name]["kind"] == ("Embedding" if "embeddings" in name else "Linear")
        assert listed[name]["input_bits"] == (32 if "embeddings" in name else 8)


def test_totals_agree_with_a_recount(report: Any, finished: Path, weights: dict[str, torch.Tensor]) -> None:
    """Counted from the safetensors alone, with the scales that lie beside them."""
    state = load_file(finished / "modifiers.safetensors")
    scales = {key.partition(":")[2]: value for key, value in state.items() if key.endswith(".scale")}
    linear = [
        v for n, v in weights.items() if v.dim() == 2 and n.endswith("weight") and "embeddings" not in n
    ]
    stored = compressed = 0
    for name, value in weights.items():
        scale = scales.get(f"{name}_quantizer.scale")
        raw = value.numpy() if scale is None else np.rint(value.numpy() / scale.numpy()).astype(np.int8)
        stored += raw.nbytes
        compressed += len(zlib.compress(raw.tobytes(), 6))
    zeros = sum(int((value == 0).sum()) for value in linear)
    prunable = sum(value.numel() for value in linear)
    assert report["totals"] == {
        "parameters": sum(value.numel() for value in weights.values()),
        "prunable_parameters": prunable,
        "prunable_sparsity": round(zeros / prunable, 6),
        "quantizable_layers": 17,
        "quantized_layers": 17,
        "quantized_attention_layers": 2,
        "quantized_share": 1.0,
        "dense_bytes": 4 * sum(value.numel() for value in weights.values()),
        "integer_bytes": stored,
        "compressed_bytes": compressed,
    }
    assert compressed < stored < report["totals"]["dense_bytes"]


def test_report_says_what_was_run_and_how_it_went(report: Any, finished: Path, pruned_model: Path) -> None:
    assert report["command"][0] == "sparseml.transformers.text_classification"
    assert report["command"][report["command"].index("--output_dir") + 1] == str(finished)
    assert report["start"] == str(pruned_model)
    assert {"python", "torch", "transformers", "datasets", "resparse"} <= report["versions"].keys()
    assert report["versions"]["torch"] == torch.__version__.partition("+")[0] or report["versions"][
        "torch"
    ] == str(torch.__version__)
    assert report["data"]["labels"] == ["negative", "positive"]
    scores = json.loads((finished / "eval_results.json").read_text(encoding="utf-8"))
    assert report["metrics"]["eval_accuracy"] == scores["eval_accuracy"]
    assert {"train_loss", "eval_loss", "eval_accuracy"} <= report["metrics"].keys()


def test_model_without_recipe_is_dense_and_unquantized(pruned_model: Path) -> None:
    torch.manual_seed(0)
    model = load_trained(tiny.bert(pruned_model.parent / "dense", names=["a", "b"], sparsity=0.0))
    sums = reports.totals(model)
    assert sums["prunable_sparsity"] == 0 and sums["quantized_layers"] == 0
    assert sums["quantized_share"] == 0 and sums["quantized_attention_layers"] == 0
    assert sums["integer_bytes"] == sums["dense_bytes"]


def test_table_for_a_person(report: Any) -> None:
    with console.capture() as captured:
        console.print(reports.table(report))
    text = captured.get()
    assert f"{report['totals']['prunable_sparsity']:.1%}" in text
    assert "17 of 17 layers, 2 attentions" in text
    assert f"{report['metrics']['eval_accuracy']:.4f}" in text
