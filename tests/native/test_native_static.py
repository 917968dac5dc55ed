"""Models that others have quantized with fixed ranges, sums, scores and activations included: ONNX Runtime's
`quantize_static`, as optimum calls it, too; and its dynamic quantization with attention, which is optimum's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Engine
from deepsparse.errors import UnsupportedError
from deepsparse.native import library
from deepsparse.native.encoder import AttentionProducts, Encoder, Linear, Tabulated, linears
from deepsparse.native.onnx_graph import read
from deepsparse.native.recognition import recognize
from support import exports, others

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

CLOSE, STEP = 1e-4, 0.06
"""What float32 sums in another order come to, and what a few steps of 8-bit grids may."""

_QUICK = ("static", "static, by channel", "static, operators of integers", "optimum, dynamic")
WAYS = [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in others.WAYS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a way of quantizing to the model."""
    folder = tmp_path_factory.mktemp("static")
    source = folder / "float.onnx"

    def make(way: str) -> Path:
        path = folder / f"{way}.onnx"
        if not source.exists():
            positions = exports.POSITIONS
            exports.portable("bert", source, quantized=False, spread=True, max_position_embeddings=positions)
        if not path.exists():
            others.quantize(source, path, way)
        return path

    return make


@pytest.fixture(scope="module")
def encoder_of(made: Callable[[str], Path]) -> Callable[[str], Encoder]:
    return lambda way: recognize(read(made(way)))


@needs_library
@pytest.mark.parametrize("way", WAYS)
def test_answers_of_every_way(made: Callable[[str], Path], way: str):
    """As ONNX Runtime computes the graph as it stands, on every instruction set."""
    path = made(way)
    reference = others.as_it_stands(path)
    for isa in library.isas():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DEEPSPARSE_ISA", isa.name)
            native = Engine(path, num_cores=2, engine_type="native")
        apart = []
        for seed, columns in enumerate((1, 2, 5, 16, 17, 33, 64, 70, 130, 200, 3, 41)):
            given = others.feeds(1, columns, seed)
            (found,), (wanted,) = native.run(given), reference(given)
            np.testing.assert_allclose(found, wanted, atol=STEP, err_msg=isa.name)
            apart.append(np.abs(found - wanted).max() > CLOSE)
        assert sum(apart) <= 0.25 * len(apart), isa.name


@needs_library
@pytest.mark.parametrize("way", ["static", "optimum, dynamic"])
def test_a_batch_answers_as_each_text_alone(made: Callable[[str], Path], way: str):
    """Also where the calibration had no padding, so that the mask is rounded to 0: ONNX Runtime then sees padding."""
    native = Engine(made(way), num_cores=2, engine_type="native")
    given = others.feeds(7, 40, 0)
    for row in range(1, 7):
        given["attention_mask"][row, 5 * row :] = 0
    (together,) = native.run(given)
    for row in range(7):
        kept = given["attention_mask"][row] != 0
        (alone,) = native.run({name: array[row : row + 1, kept] for name, array in given.items()})
        np.testing.assert_array_equal(alone[0], together[row])


def test_what_is_rounded(encoder_of: Callable[[str], Encoder]):
    encoder = encoder_of("static")
    assert all(isinstance(one, Linear) and one.grid is not None for one in linears(encoder))
    assert encoder.sums[1] is not None
    for layer in encoder.layers:
        assert layer.query.product_rounding is not None and layer.query.rounding is None
        assert layer.grids is not None and layer.grids.products == AttentionProducts.IN_FLOAT
        assert len(layer.grids.scores) == 3 and layer.grids.probabilities is not None
        assert all(vars(layer.roundings).values())
        assert isinstance(layer.activation, Tabulated)


def test_tables_of_activations_are_near_the_function(encoder_of: Callable[[str], Encoder]):
    from deepsparse.native.activations import _FUNCTIONS
    from deepsparse.native.encoder import Activation

    for layer in encoder_of("static").layers:
        found = layer.activation
        assert isinstance(found, Tabulated)
        numbers = (np.arange(256) - found.grid.zero_point) * found.grid.scale
        np.testing.assert_allclose(found.values, _FUNCTIONS[Activation.GELU](numbers), atol=0.05)
        assert len(np.unique(found.values)) < 256, "the steps of its own grids"


def test_operators_of_integers_are_the_same_model(encoder_of: Callable[[str], Encoder]):
    one, other = encoder_of("static, MatMul and Gemm"), encoder_of("static, operators of integers")
    for first, second in zip(one.layers, other.layers, strict=True):
        np.testing.assert_array_equal(first.output.weights, second.output.weights)
        assert first.output.grid is not None and second.output.grid is not None


def test_dynamic_attention(encoder_of: Callable[[str], Encoder]):
    for layer in encoder_of("optimum, dynamic").layers:
        assert layer.grids is not None and layer.grids.products == AttentionProducts.BY_RANGE


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (
            {"activation_type": "QUInt16"},
            ("is not on one grid of 8 bits", "`activation_bits`", "`activation_type`"),
        ),
        ({"weight_type": "QInt16"}, ("are no matrix of 8-bit integers", "`weight_bits`", "`weight_type`")),
    ],
    ids=["activations of 16 bits", "weights of 16 bits"],
)
def test_refusals_name_the_setting(
    made: Callable[[str], Path], settings: dict[str, Any], parts: Sequence[str]
):
    source = made("static").with_name("float.onnx")
    path = source.with_name(f"{settings}.onnx")
    others.quantize_static(source, path, op_types_to_quantize=["MatMul"], **settings)
    with pytest.raises(UnsupportedError) as caught:
        recognize(read(path))
    for part in parts:
        assert part in caught.value.reason and part in str(caught.value)


@needs_library
def test_the_note_of_another_engine_names_the_setting(
    made: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    source = made("static").with_name("float.onnx")
    path = source.with_name("noted.onnx")
    others.quantize_static(source, path, op_types_to_quantize=["MatMul"], weight_type="QInt16")
    engine = Engine(path, num_cores=1)
    assert engine.engine_type == "onnxruntime"
    assert "`weight_bits`" in "".join(capsys.readouterr())


def test_a_refusal_names_the_node_and_its_module(made: Callable[[str], Path]):
    graph = read(made("static").with_name("float.onnx"))
    softmax = [node for node in graph.nodes if node.op_type == "Softmax"][-1]
    softmax.op_type = "LogSoftmax"
    with pytest.raises(UnsupportedError) as caught:
        recognize(graph)
    assert f"made by LogSoftmax {softmax.name!r}" in caught.value.reason
    assert "after 'bert." in caught.value.reason


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """ONNX Runtime's quantizers advise to run their preprocessing."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
