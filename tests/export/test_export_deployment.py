"""The whole export of a really trained, tiny classifier: what it writes, what it refuses, what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file, save_file

from deepsparse import Pipeline
from resparse.errors import UserError
from sparseml.export import deployment, verify
from sparseml.export.sessions import open_session
from sparseml.export.trace import ExportError
from sparseml.quantization.structure import quantizers_of
from sparseml.session.models import load_trained
from sparseml.transformers import export
from support import tiny
from support.hub import LoopbackHub

FILES = {
    "config.json",
    "model.onnx",
    "recipe.yaml",
    "report.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
}


def exported(model: Path, target: Path, *more: str) -> dict[str, Any]:
    return export.main(
        ["--task", "text-classification", "--model_path", str(model), "--target_path", str(target), *more]
    )


@pytest.fixture(scope="module", autouse=True)
def trace_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tracing takes seconds; the same weights are traced once for all tests here."""
    import onnx_ir as ir

    traced = tmp_path_factory.mktemp("traced")
    honest = deployment.to_onnx

    def remembered(model: Any, inputs: Sequence[str], opset: int, outputs: Sequence[str]) -> Any:
        tensors = [*model.parameters(), *(quantizer.scale for _, quantizer in quantizers_of(model))]
        key = hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()
        path = traced / f"{key}.onnx"
        if not path.exists():
            ir.save(honest(model, inputs, opset, outputs), path)
        return ir.load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployment, "to_onnx", remembered)
        yield


@pytest.fixture(scope="module")
def deployed(trained: Path, trace_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment folder; not to be changed."""
    target = tmp_path_factory.mktemp("deployed")
    exported(trained, target, "--num_export_samples", "2")
    return target / "deployment"


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """The trained folder, to be spoiled; without the report that says where its rows are."""
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    (folder / "report.json").unlink()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What is written.


def test_the_folder_holds_what_a_runtime_needs_and_no_more(deployed: Path) -> None:
    assert {path.name for path in deployed.iterdir()} == FILES
    config = json.loads((deployed / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["label2id"] == {"negative": 0, "positive": 1}
    assert config["num_labels"] == 2 and config["problem_type"] == "single_label_classification"
    special = json.loads((deployed / "special_tokens_map.json").read_text())
    assert special["pad_token"] == "[PAD]" and special["cls_token"] == "[CLS]"
    words = (deployed / "vocab.txt").read_text().splitlines()
    assert words == [*tiny.SPECIAL, *tiny.WORDS]
    assert json.loads((deployed / "tokenizer.json").read_text())["truncation"] is None


def test_the_report_says_what_was_checked(deployed: Path) -> None:
    report = json.loads((deployed / "report.json").read_text())
    assert report["metrics"] and report["layers"], "what training reported stays"
    facts = report["export"]
    assert facts["verification"]["on"] == "validation.csv" and facts["verification"]["rows"] == 48
    assert facts["verification"]["label_agreement"] >= verify.AGREEMENT
    assert facts["layers"]["int8_linears"] == 14 and facts["layers"]["float_linears"] == 0
    assert facts["layers"]["int8_embeddings"] == 3
    assert facts["layers"]["pruned_weights_at_zero_point"] > 0
    size = facts["size"]
    assert size["compressed_bytes"] < size["stored_bytes"] and size["dense_bytes"] > 0
    assert set(facts["files"]) == FILES


def test_dimensions_are_dynamic_and_nothing_of_this_machine_is_in_the_model(deployed: Path) -> None:
    model = onnx.load(deployed / "model.onnx")
    for value in model.graph.input:
        assert [axis.dim_param for axis in value.type.tensor_type.shape.dim] == ["batch", "sequence"]
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [value.name for value in model.graph.output] == ["logits"]
    text = (deployed / "model.onnx").read_bytes() + (deployed / "config.json").read_bytes()
    assert b"/site-packages/" not in text and str(Path.home()).encode() + b"/" not in text
    quantized = {"MatMul", "Gemm"}
    assert not [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) > 1
        and any(tensor.name in node.input for node in model.graph.node if node.op_type in quantized)
    ]


def test_samples_are_rows_with_the_models_answers(deployed: Path) -> None:
    inputs = np.load(deployed.parent / "sample-inputs" / "inp-0001.npz")
    answers = np.load(deployed.parent / "sample-outputs" / "out-0001.npz")["logits"]
    (again,) = open_session(deployed / "model.onnx").run(None, dict(inputs))
    np.testing.assert_allclose(again, answers, atol=0.02)


@pytest.mark.parametrize(
    "more", [("--runtime", "deepsparse"), ("--opset", "14"), ("--save_with_external_data",)]
)
def test_other_forms_are_checked_too(trained: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    report = exported(trained, tmp_path, *more)
    model = onnx.load(tmp_path / "deployment" / "model.onnx")
    opset = model.opset_import[0].version
    assert opset == report["export"]["opset"] == (18 if "external" in more[0] else 14)
    assert (tmp_path / "deployment" / "model.data").exists() == ("external" in more[0])


def test_a_model_too_large_for_one_file_gets_two(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "_LARGEST_FILE", 10_000)
    report = exported(trained, tmp_path)
    folder = tmp_path / "deployment"
    weights = onnx.load(folder / "model.onnx", load_external_data=False).graph.initializer
    assert sum(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in weights) >= 14
    assert "model.data" in report["export"]["files"]


def test_a_dense_classifier_without_a_recipe_is_exported(tmp_path: Path) -> None:
    model = tiny.bert(tmp_path / "dense", names=["no", "yes"], sparsity=0.0)
    report = exported(model, tmp_path)
    assert report["export"]["layers"]["int8_linears"] == 0
    assert report["export"]["verification"]["on"] == "made-up texts"
    assert {path.name for path in (tmp_path / "deployment").iterdir()} == FILES - {"recipe.yaml"}


@pytest.mark.slow
def test_a_recipe_can_be_applied_once_on_the_way(tmp_path: Path) -> None:
    model = tiny.bert(tmp_path / "sparse", names=["no", "yes"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("modifiers:\n  - !QuantizationModifier\n      start_epoch: 0.0\n")
    report = exported(model, tmp_path, "--one_shot", str(recipe))
    assert report["export"]["layers"]["int8_linears"] == 14
    assert "QuantizationModifier" in (tmp_path / "deployment" / "recipe.yaml").read_text()


def test_the_folder_lies_beside_the_model_unless_said_otherwise(copy: Path) -> None:
    export.main([str(copy)])
    assert (copy.parent / "deployment" / "model.onnx").is_file()


# What is left alone.


def test_files_of_others_stay_and_those_of_the_export_before_do_not(copy: Path, tmp_path: Path) -> None:
    exported(copy, tmp_path, "--save_with_external_data")
    folder = tmp_path / "deployment"
    (folder / "notes.txt").write_text("mine")
    exported(copy, tmp_path)
    assert {path.name for path in folder.iterdir()} == {*FILES, "notes.txt"}
    assert (folder / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*.part"))


def test_a_model_that_is_not_ours_is_not_overwritten(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deployment"
    folder.mkdir()
    (folder / "model.onnx").write_text("precious")
    with pytest.raises(ExportError, match="no export of resparse wrote"):
        exported(copy, tmp_path)
    assert contents(folder) == {"model.onnx": b"precious"}


def test_an_export_that_answers_otherwise_fails_and_leaves_the_folder_as_it_was(
    deployed: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = np.load(deployed.parent / "sample-outputs" / "out-0000.npz")["logits"].argmax()
    shift = np.where(np.arange(2) == usual, -100, 100).astype(np.float32)
    exported(copy, tmp_path)
    before = contents(tmp_path / "deployment")
    honest = deployment.apply_format

    def spoil(model: Any, form: str, opset: int | None = None) -> None:
        honest(model, form, opset)
        import onnx_ir as ir

        # The classifier's bias, by what it is: biases that are equal share one name.
        *_, classifier = (node for node in model.graph if node.op_type == "Gemm")
        bias = classifier.inputs[2]
        bias.const_value = ir.tensor(bias.const_value.numpy() + shift, name=bias.name)

    monkeypatch.setattr(deployment, "apply_format", spoil)
    with pytest.raises(ExportError, match=r"(?s)rows get another label.*The worst row: '.+PyTorch's logits"):
        exported(copy, tmp_path)
    assert contents(tmp_path / "deployment") == before


def test_a_weight_beyond_its_frozen_range_is_exported_as_it_was_trained(copy: Path, tmp_path: Path) -> None:
    model = load_trained(copy)
    layer = model.bert.encoder.layer[0].output.dense
    with torch.no_grad():
        kept = layer.weight.nonzero()
        layer.weight[tuple(kept[0])] = -128.4 * layer.weight_quantizer.scale
        layer.weight[tuple(kept[1])] = 200.0 * layer.weight_quantizer.scale
    tensors = load_file(copy / "model.safetensors")
    tensors["bert.encoder.layer.0.output.dense.weight"] = layer.weight.detach().numpy()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    report = exported(copy, tmp_path)
    assert report["export"]["verification"]["label_agreement"] == 1


def test_a_pruned_weight_that_came_back_fails_the_export(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = deployment.apply_format

    def spoil(model: Any, form: str, opset: int | None = None) -> None:
        honest(model, form, opset)
        name = "bert.encoder.layer.0.output.dense.weight.quantized.transposed"
        import onnx_ir as ir

        value = model.graph.initializers[name]
        weight = value.const_value.numpy().copy()
        weight[tuple(np.argwhere(weight == 0)[0])] = 1
        value.const_value = ir.tensor(weight, name=name)

    monkeypatch.setattr(deployment, "apply_format", spoil)
    with pytest.raises(ExportError, match=r"integers of bert\.encoder\.layer\.0\.output\.dense"):
        exported(copy, tmp_path)
    assert not (tmp_path / "deployment").exists()


# What is refused.


def spoil_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] = np.full_like(tensors["classifier.bias"], np.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def drop_head(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def add_a_label(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "negative", "1": "positive", "2": "neither"}
    (folder / "config.json").write_text(json.dumps(config))


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def drop_a_range(folder: Path) -> None:
    tensors = load_file(folder / "modifiers.safetensors")
    del tensors[next(key for key in tensors if key.endswith(".minimum"))]
    save_file(tensors, folder / "modifiers.safetensors")


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_weights, "not finite"),
        (drop_head, "no trained classifier"),
        (add_a_label, "3 labels"),
        (drop_tokenizer, "no tokenizer"),
        (drop("modifiers.safetensors"), r"lacks \d+ of the quantization ranges"),
        (drop_a_range, "lacks 1 of the quantization ranges"),
        (drop("recipe.yaml"), r"no recipe\.yaml"),
        (cut_short, "damaged"),
    ],
)
def test_what_cannot_be_exported_is_told_and_nothing_is_written(
    copy: Path, tmp_path: Path, spoil: Any, says: str
) -> None:
    spoil(copy)
    with pytest.raises(UserError, match=says):
        exported(copy, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "text_classification"], "--model_path is missing"),
        (["--model_path", "x", "--task", "summarization"], "is no task here"),
        (["--model_path", "x", "--opset", "9"], "13 to 22"),
        (["--model_path", "x", "--onnx_file_name", "../m.onnx"], "file's name"),
        (["--model_path", "x", "--runtime", "tensorrt"], "no such choice"),
        (["--model_path", "x", "--no_convert_qat", "--runtime", "deepsparse"], "leave out one"),
        (["--model_path", "x", "--sequence_lenght", "4"], "--sequence_length"),
        (["--model_path", "./nowhere"], "does not exist"),
        (["--model_path", "x", "--deployment_target", "deepsparse", "--opset", "18"], "up to 14"),
    ],
)
def test_arguments_that_make_no_sense_are_one_clear_line(words: Sequence[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        export.main(words)


def test_a_length_that_the_model_cannot_take_is_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="1 to 64 tokens"):
        exported(copy, tmp_path, "--sequence_length", "65")


def test_rows_can_be_named(copy: Path, tmp_path: Path) -> None:
    rows = tiny.write(tmp_path / "own.csv", tiny.rows(5, seed=9))
    report = exported(copy, tmp_path, "--data_args", json.dumps({"validation_file": str(rows)}))
    assert (
        report["export"]["verification"]["on"] == "own.csv" and report["export"]["verification"]["rows"] == 5
    )
    with pytest.raises(UserError, match="no such argument: 'validation_fil'"):
        exported(copy, tmp_path, "--data_args", "validation_fil=x.csv")


def test_help_comes_without_torch(capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from sparseml.transformers import export\n"
        "try: export.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in (
        "--sequence_length",
        "--no_convert_qat",
        "--finetuning_task",
        "--trust_remote_code",
        "--one_shot",
    ):
        assert name in shown


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_pushed_when_it_is_exported_and_loaded_by_its_name(
    trained: Path, tmp_path: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens.add("hf_may_write")
    monkeypatch.setenv("HF_TOKEN", "hf_may_write")
    exported(trained, tmp_path, "--push_to_hub", "--hub_model_id", "team/mood", "--hub_private_repo")
    assert hub.repos["models", "team/mood"].private
    names = set(hub.repos["models", "team/mood"].revisions["main"])
    assert names == FILES | {"README.md"}
    texts = ["a lovely film", "a dull song"]
    local = Pipeline.create(model_path=tmp_path / "deployment")
    assert Pipeline.create(model_path="hf:team/mood")(texts) == local(texts)


def test_a_push_that_is_refused_costs_no_export(trained: Path, tmp_path: Path, hub: LoopbackHub) -> None:
    with pytest.raises(UserError, match="hf auth login"):
        exported(trained, tmp_path, "--push_to_hub", "--hub_model_id", "team/mood")
    with pytest.raises(UserError, match="--hub_model_id names the repository for --push_to_hub"):
        exported(trained, tmp_path, "--hub_model_id", "team/mood")
    with pytest.raises(UserError, match="--onnx_file_name"):
        exported(trained, tmp_path, "--push_to_hub", "--onnx_file_name", "mood.onnx")
    assert not list(tmp_path.iterdir())
