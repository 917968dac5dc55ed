"""Models that ONNX Runtime's `quantize_dynamic` made: inputs are quantized by the range of each text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Engine
from deepsparse.native import library
from deepsparse.native.encoder import Linear, linears
from deepsparse.native.onnx_graph import read
from deepsparse.native.recognition import recognize
from support import exports
from support.encoders import VOCABULARY
from support.reference import reference_engine

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

CLOSE, STEP = 1e-4, 0.06
"""What float32 sums in another order come to, and what one step of an 8-bit grid may."""

WAYS: dict[str, dict[str, Any]] = {
    "int8": {"weight_type": "QInt8"},
    "by channel, 7 bits": {"weight_type": "QInt8", "per_channel": True, "reduce_range": True},
    "uint8, 7 bits": {"weight_type": "QUInt8", "reduce_range": True},
}


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dynamic") / "float.onnx"
    positions = exports.POSITIONS
    return exports.portable("bert", path, quantized=False, spread=True, max_position_embeddings=positions)


@pytest.fixture(scope="module")
def made(float_model: Path) -> Callable[[str], Path]:
    """A function from a way of quantizing to the model."""

    def make(way: str) -> Path:
        from onnxruntime import quantization

        path = float_model.with_name(f"{way}.onnx")
        if not path.exists():
            settings = {**WAYS[way], "weight_type": getattr(quantization.QuantType, WAYS[way]["weight_type"])}
            quantization.quantize_dynamic(float_model, path, **settings)
        return path

    return make


def feeds(rows: int, columns: int, seed: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(2, VOCABULARY, (rows, columns))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def test_every_linear_is_quantized_without_a_grid(made: Callable[[str], Path]):
    encoder = recognize(read(made("int8")))
    assert all(isinstance(linear, Linear) and linear.grid is None for linear in linears(encoder))
    assert all(layer.grids is None for layer in encoder.layers)


@needs_library
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("isa", library.isas() if library.file() else [], ids=lambda isa: isa.name)
def test_a_text_is_answered_as_onnxruntime_does(
    made: Callable[[str], Path], way: str, isa: library.InstructionSet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEEPSPARSE_ISA", isa.name)
    path = made(way)
    native = Engine(path, num_cores=2, engine_type="native")
    reference = reference_engine(path)
    apart = []
    for seed, columns in enumerate((1, 2, 5, 12, 16, 17, 33, 64, 70, 100, 200, 3, 9, 28, 41, 50)):
        given = feeds(1, columns, seed)
        (found,), (wanted,) = native.run(given), reference.run(given)
        np.testing.assert_allclose(found, wanted, atol=STEP)
        apart.append(np.abs(found - wanted).max() > CLOSE)
    assert sum(apart) <= 0.25 * len(apart)


@needs_library
def test_a_batch_answers_as_each_text_alone(made: Callable[[str], Path]):
    """In ONNX Runtime the others' ranges, and those of padding, change the answer."""
    native = Engine(made("int8"), num_cores=2, engine_type="native")
    given = feeds(9, 40, 0)
    for row in range(1, 9):
        given["attention_mask"][row, 4 * row :] = 0
    (together,) = native.run(given)
    for row in range(9):
        kept = given["attention_mask"][row] != 0
        (alone,) = native.run({name: array[row : row + 1, kept] for name, array in given.items()})
        np.testing.assert_array_equal(alone[0], together[row])
