"""Layers in float multiplied in bfloat16, where `DEEPSPARSE_PRECISION` asks for it and the processor has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepsparse import Engine
from deepsparse.errors import EngineError
from deepsparse.native import library, packing
from deepsparse.native.encoder import FloatLinear
from deepsparse.native.onnx_graph import read
from deepsparse.native.packing import LayerRecord, ModelRecord
from deepsparse.native.recognition import recognize
from support import exports, others

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
pytestmark = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

ISAS = [one for one in (library.isas() if library.file() else []) if library.load().resparse_bfloats(one.isa)]
needs_bfloats = pytest.mark.skipif(not ISAS, reason="this processor has no products of bfloat16")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """A function from the share of zeros to a model in float, of an odd width."""
    folder = tmp_path_factory.mktemp("bfloats")

    def make(sparsity: float) -> Path:
        path = folder / f"{sparsity}.onnx"
        if not path.exists():
            settings = {"spread": True, "intermediate_size": 99, "max_position_embeddings": exports.POSITIONS}
            exports.portable("bert", path, quantized=False, sparsity=sparsity, **settings)
        return path

    return make


def answers(path: Path) -> np.ndarray:
    native = Engine(path, num_cores=2, engine_type="native")
    return np.concatenate(
        [native.run(others.feeds(3, columns, columns))[0] for columns in (1, 7, 16, 33, 130)]
    )


def formats(path: Path, in_bfloats: bool) -> set[int]:
    """Those of the linear layers of the first layer."""
    block = packing.build(recognize(read(path)), library.chosen_isa(), in_bfloats)
    model = ModelRecord.from_buffer_copy(block.tobytes())
    layer = LayerRecord.from_buffer_copy(block.tobytes(), model.layer_records)
    assert model.head[0].linear.format == library.WeightFormat.FLOAT
    return {getattr(layer, name).format for name in packing.LAYER_LINEARS}


@needs_bfloats
@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_answers_are_near_those_of_float32(
    made: Callable[[float], Path], isa: library.InstructionSet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEEPSPARSE_ISA", isa.name)
    exact = answers(made(0.0))
    monkeypatch.setenv("DEEPSPARSE_PRECISION", "bf16")
    short = answers(made(0.0))
    assert 1e-4 < np.abs(short - exact).max() < 0.03
    assert (short.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.9


@needs_bfloats
def test_few_non_zeros_stay_sparse_in_float32(made: Callable[[float], Path]):
    assert formats(made(0.0), True) == {library.WeightFormat.BFLOAT16}
    assert formats(made(0.0), False) == {library.WeightFormat.FLOAT}
    assert formats(made(0.95), True) == {library.WeightFormat.SPARSE_FLOAT}


@needs_bfloats
def test_what_is_rounded_is_not_shortened_too(tmp_path: Path):
    fields = {"scheme": {"weights": None}}
    path = exports.of_recipe("bert", tmp_path / "model.onnx", fields, sparsity=0.0)
    layer = recognize(read(path)).layers[0]
    assert isinstance(layer.query, FloatLinear) and layer.query.grid is not None
    block = packing.build(recognize(read(path)), library.chosen_isa(), in_bfloats=True)
    model = ModelRecord.from_buffer_copy(block.tobytes())
    packed = LayerRecord.from_buffer_copy(block.tobytes(), model.layer_records)
    assert packed.query.format == library.WeightFormat.FLOAT


def test_rounded_half_to_even():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    values[:3] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8
    wanted = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(packing._bfloats(values), wanted)


def test_elsewhere_it_is_float32_and_a_line_says_so(
    made: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DEEPSPARSE_ISA", library.PORTABLE)
    exact = answers(made(0.0))
    monkeypatch.setenv("DEEPSPARSE_PRECISION", "bf16")
    np.testing.assert_array_equal(answers(made(0.0)), exact)
    assert "no products of bfloat16" in "".join(capsys.readouterr())


def test_a_precision_that_there_is_not(made: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEEPSPARSE_PRECISION", "fp16")
    with pytest.raises(EngineError, match="no such precision"):
        Engine(made(0.0), engine_type="native")
