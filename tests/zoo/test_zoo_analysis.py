"""`sparsezoo.analyze`: counts against NumPy's, on weights of every type and on graphs of every form."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import sparsezoo
from sparsezoo import ZooError
from sparsezoo.analysis.command import main
from sparsezoo.analysis.layers import Layer, total
from support.hub import LoopbackHub


@pytest.fixture(autouse=True)
def _home(zoo_home: Path) -> None:
    """No test reads the zoo of the person who runs it."""


def matrix(rows: int, columns: int, seed: int = 0, sparsity: float = 0.7) -> np.ndarray[Any, Any]:
    source = np.random.default_rng(seed)
    values = source.integers(1, 100, (rows, columns)).astype(np.float32)
    return values * (source.random((rows, columns)) >= sparsity)


def zeros(values: np.ndarray[Any, Any]) -> int:
    return int((values == 0).sum())


def save(path: Path, tensors: dict[str, Any]) -> Path:
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.as_tensor(value) for name, value in tensors.items()}, path)
    return path


def quantize(values: np.ndarray[Any, Any], offset: int) -> np.ndarray[Any, Any]:
    """To integers of this zero point; all of `values` are at most 100."""
    return (values + offset).astype(np.uint8 if offset else np.int8)


def graph(path: Path, nodes: list[Any], constants: dict[str, Any]) -> Path:
    """A model of these nodes, from `x` to the last one's output; it need not run."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", None])],
            [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
    )
    onnx.save(model, path)
    return path


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs, [output], **attributes)


@pytest.mark.parametrize(
    ("dtype", "bits"), [("float32", 32), ("float64", 64), ("float16", 16), ("bfloat16", 16), ("int8", 8)]
)
def test_weights_of_every_type(dtype: str, bits: int, tmp_path: Path) -> None:
    import torch

    values = torch.as_tensor(matrix(6, 9)).to(getattr(torch, dtype))
    values[0, 0] = -0.0
    (layer,) = sparsezoo.analyze(save(tmp_path / "a.safetensors", {"l.weight": values})).layers
    assert layer == Layer("l.weight", "Linear", (6, 9), int((values == 0).sum()), bits)


def test_kinds_and_sums(tmp_path: Path) -> None:
    weight, table = matrix(4, 8), matrix(10, 4, 1, 0.0)
    tensors = {
        "bert.embeddings.word_embeddings.weight": table,
        "bert.layer.0.dense.weight": weight,
        "bert.layer.0.dense.bias": np.zeros(4, np.float32),
        "bert.layer.0.LayerNorm.weight": np.ones(4, np.float32),
    }
    save(tmp_path / "model.safetensors", tensors)
    layers = [{"name": "bert.layer.0.dense", "weight_bits": 8}]
    (tmp_path / "report.json").write_text(json.dumps({"layers": layers}))
    found = sparsezoo.analyze(tmp_path)
    assert {
        layer.name.split(".")[-2]: (layer.op, layer.bits) for layer in found.layers if layer.op != "Bias"
    } == {
        "word_embeddings": ("Embedding", 32),
        "dense": ("Linear", 8),
        "LayerNorm": ("Norm", 32),
    }
    sums = found.totals
    assert (sums.parameters, sums.prunable_parameters) == (40 + 32 + 8, 32)
    assert sums.sparsity == zeros(weight) / 32 and sums.quantized == 32 / 80
    assert (sums.operations, sums.sparse_operations) == (64, 2 * (32 - zeros(weight)))
    assert (sums.bytes, sums.dense_bytes) == (32 + 4 * 48, 4 * 80)


def test_every_form_of_a_quantized_matrix(tmp_path: Path) -> None:
    """Float; QDQ of integers, transposed, by channel; float rounded at run time; integer product; QLinear."""
    weights = [matrix(8, 8, seed) for seed in range(5)]
    scale, point = np.float32(0.1), np.uint8(128)
    channels = np.arange(8, dtype=np.uint8)
    by_channel = (weights[1] + channels).astype(np.uint8)
    nodes = [
        node("MatMul", ["x", "float"], "a"),
        node("DequantizeLinear", ["qdq", "scales", "points"], "b0", axis=1),
        node("Transpose", ["b0"], "b1"),
        node("MatMul", ["a", "b1"], "b"),
        node("QuantizeLinear", ["fake", "scale", "zero"], "c0"),
        node("DequantizeLinear", ["c0", "scale", "zero"], "c1"),
        node("Gemm", ["b", "c1", "bias"], "c"),
        node("QuantizeLinear", ["c", "scale", "point"], "d0"),
        node("MatMulInteger", ["d0", "integer", "point", "point"], "d"),
        node("QLinearMatMul", ["d0", "scale", "point", "qlinear", "scale", "point", "scale", "point"], "e0"),
        node("DequantizeLinear", ["e0", "scale", "point"], "e"),
    ]
    constants = {
        "float": weights[0],
        "qdq": by_channel,
        "scales": np.full(8, scale),
        "points": channels,
        "fake": weights[2],
        "bias": np.ones(8, np.float32),
        "integer": quantize(weights[3], 128),
        "qlinear": quantize(weights[4], 128),
        **{"scale": scale, "point": point, "zero": np.int8(0)},
    }
    found = sparsezoo.analyze(graph(tmp_path / "m.onnx", nodes, constants))
    matrices = {layer.name: layer for layer in found.layers if layer.op != "Other"}
    expected = zip(["float", "qdq", "fake", "integer", "qlinear"], weights, [32, 8, 8, 8, 8], strict=True)
    assert {name: (layer.zeros, layer.bits) for name, layer in matrices.items()} == {
        name: (zeros(weight), bits) for name, weight, bits in expected
    }
    assert [layer.name for layer in found.layers if layer.op == "Other"] == ["bias"]
    assert found.nodes["MatMul"] == 2 and found.totals.operations == 5 * 2 * 64


def test_a_matrix_that_is_used_twice_counts_once(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], "a"), node("MatMul", ["a", "w"], "b")]
    found = sparsezoo.analyze(graph(tmp_path / "m.onnx", nodes, {"w": matrix(3, 3)}))
    assert found.totals.parameters == 9 and found.nodes == {"MatMul": 2}


@pytest.mark.parametrize("name", ["model.json", "model.csv", "model.yaml"])
def test_saved_in_every_format(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "model.safetensors", {"a.weight": matrix(4, 4), "b.bias": np.ones(3, np.float32)})
    assert main([str(path), "--save", str(tmp_path / name)]) == 0
    shown = capsys.readouterr().out
    assert "a.weight" in shown and "4 x 4" in shown
    text = (tmp_path / name).read_text()
    if name.endswith("csv"):
        rows = list(csv.DictReader(text.splitlines()))
        assert [(row["name"], row["shape"]) for row in rows] == [("a.weight", "4x4"), ("b.bias", "3")]
    else:
        value = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
        assert value["totals"]["sparsity"] == round(zeros(matrix(4, 4)) / 16, 6)


def test_two_models_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, sparsity in (("dense", 0.0), ("sparse", 1.0)):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "model.safetensors", {"a.weight": matrix(4, 4, sparsity=sparsity)})
    assert main([str(tmp_path / "dense"), "--compare", str(tmp_path / "sparse"), "--by-types"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("zeros in matrices")]
    assert line.split()[-2:] == ["0.00%", "100.00%"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.onnx", b"nonsense", "no ONNX model"),
        ("m.onnx", b"", "no nodes"),
        ("m.safetensors", b"\x08", "damaged"),
        ("m.safetensors", b"\xff" * 40, "damaged"),
        ("m.safetensors", b"\x02\0\0\0\0\0\0\0[]", "damaged"),
        ("pytorch_model.bin", b"", "neither an .onnx"),
    ],
)
def test_what_is_no_model_is_refused(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ZooError, match=said):
        sparsezoo.analyze(tmp_path / name)


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", {"a.weight": matrix(8, 8)})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ZooError, match="cut short"):
        sparsezoo.analyze(path)


def test_mistakes_leave_with_two(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2 and "neither model.onnx" in capfd.readouterr().err
    assert main([str(tmp_path), "--save", "a.txt"]) == 2 and "--save a.txt" in capfd.readouterr().err


def test_a_hub_id(hub: LoopbackHub, pruned_model: Path) -> None:
    hub.add("owner/model", {path.name: path.read_bytes() for path in pruned_model.iterdir()})
    assert sparsezoo.analyze("owner/model").totals == sparsezoo.analyze(pruned_model).totals


def test_an_export_has_the_trainings_parameters_and_zeros(
    pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    from sparseml.transformers import export
    from support import tiny

    report = tiny.train(pruned_model, rows_folder, tmp_path / "model")
    export.main(["--model_path", str(tmp_path / "model")])
    trained, exported = sparsezoo.analyze(tmp_path / "model"), sparsezoo.analyze(tmp_path / "deployment")
    assert trained.totals.parameters == exported.totals.parameters == report["totals"]["parameters"]
    assert trained.totals.sparsity == pytest.approx(report["totals"]["prunable_sparsity"], abs=1e-6)
    assert exported.totals.sparsity >= trained.totals.sparsity  # small weights round to zero
    assert trained.totals.quantized == exported.totals.quantized > 0.9


def test_sums_of_nothing() -> None:
    assert (total([]).sparsity, total([]).quantized) == (0.0, 0.0)


def test_it_imports_no_torch(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", {"a.weight": matrix(2, 2)})
    nodes = [node("MatMul", ["x", "w"], "a")]
    onnx = graph(tmp_path / "m.onnx", nodes, {"w": matrix(3, 3)})
    code = (
        "import sys, sparsezoo; light = 'numpy' not in sys.modules;"
        "[sparsezoo.analyze(path) for path in sys.argv[1:]]; print(light, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(onnx)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
