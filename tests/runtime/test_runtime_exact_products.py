"""ONNX Runtime's products of 8-bit integers are exact, also where its fast ones saturate (x86 without VNNI)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deepsparse.backends.base import Resources
from deepsparse.backends.onnxruntime import PRODUCTS_VARIABLE, OnnxRuntimeBackend
from deepsparse.errors import EngineError
from sparseml.export.sessions import cuts_off, open_session

WIDTH = 64
SOURCE = np.random.default_rng(3)
# Large values of one sign: two products of them are more than 16 bits hold.
WEIGHTS = [SOURCE.integers(100, 128, (WIDTH, WIDTH)).astype(np.int8) for _ in range(2)]
INPUT = SOURCE.integers(200, 256, (5, WIDTH)).astype(np.float32)


def expected() -> np.ndarray:
    found = INPUT.astype(np.int64)
    total = sum(found @ weights.astype(np.int64) for weights in WEIGHTS)
    return np.asarray(total, np.float32)


def write(path: Path, shared: bool) -> Path:
    """The sum of the products of an input, quantized to uint8 at scale 1, with two stored int8 weights."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
    ]
    values = {"one": np.float32(1), "zero": np.uint8(0), "z": np.int8(0)}
    for index, weights in enumerate(WEIGHTS):
        zero_point = "z" if shared else f"z{index}"
        values |= {f"w{index}": weights, zero_point: np.int8(0)}
        nodes += [
            helper.make_node("DequantizeLinear", [f"w{index}", "one", zero_point], [f"dw{index}"]),
            helper.make_node("MatMul", ["d", f"dw{index}"], [f"y{index}"]),
        ]
    nodes.append(helper.make_node("Add", ["y0", "y1"], ["y"]))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items() if name in used],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_the_engine_computes_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backend = OnnxRuntimeBackend(write(tmp_path / "model.onnx", shared=False), Resources(1, 1))
    np.testing.assert_array_equal(backend.run({"x": INPUT})[0], expected())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shared", [False, True])
def test_exports_are_compared_with_what_the_file_says(tmp_path: Path, shared: bool) -> None:
    file = write(tmp_path / "model.onnx", shared)
    np.testing.assert_array_equal(open_session(file).run(None, {"x": INPUT})[0], expected())


def test_weights_that_share_a_zero_point_run_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime 1.31 does not make exact products of them."""
    backend = OnnxRuntimeBackend(write(tmp_path / "model.onnx", shared=True), Resources(1, 1))
    (found,) = backend.run({"x": INPUT})
    exact = bool((found == expected()).all())
    assert exact or (cuts_off() and "cut off" in capsys.readouterr().err)


def test_fast_products_are_to_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "model.onnx", shared=False)
    monkeypatch.setenv(PRODUCTS_VARIABLE, "fast")
    (found,) = OnnxRuntimeBackend(file, Resources(1, 1)).run({"x": INPUT})
    assert bool((found == expected()).all()) != cuts_off()
    monkeypatch.setenv(PRODUCTS_VARIABLE, "quick")
    with pytest.raises(EngineError, match="exact or fast"):
        OnnxRuntimeBackend(file, Resources(1, 1))
