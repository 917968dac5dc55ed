"""What recipes make of a model: each form natively, with the answers of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Engine
from deepsparse.native import library
from deepsparse.native.encoder import LAYER_LINEARS, Encoder, FloatLinear, Linear
from deepsparse.native.onnx_graph import Node, read
from deepsparse.native.recognition import recognize
from support import exports
from support.encoders import VOCABULARY

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

CLOSE, STEP = 1e-4, 0.03
"""What float32 sums in another order come to, and what one step of an 8-bit grid may."""

_QUICK = ("linear outputs quantized", "single linears in float", "reduce_range")
NAMES = [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in exports.FORMS]
DENSE = {"quantized": False, "sparsity": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function from a form's name to its export, made once."""
    folder = tmp_path_factory.mktemp("forms")

    def make(name: str, architecture: str = "bert", **settings: Any) -> Path:
        path = folder / f"{architecture} {name} {settings}.onnx".replace("/", " ")
        if not path.exists():
            fields = exports.FORMS.get(name)
            alike = fields is not None and architecture == "bert" and "encoder.layer." not in str(fields)
            common = {
                "spread": True,
                "max_position_embeddings": exports.POSITIONS,
                "num_hidden_layers": 1 if alike else 2,
                **settings,
            }
            if fields is None:
                exports.portable(architecture, path, **common)
            else:
                exports.of_recipe(architecture, path, fields, **common)
        return path

    return make


def feeds(engine: Engine, rows: int, columns: int, seed: int) -> dict[str, np.ndarray]:
    """Random tokens, every row but the first of another length."""
    source = np.random.default_rng(seed)
    lengths = source.integers(1, columns + 1, rows)
    lengths[0] = columns
    mask = np.arange(columns) < lengths[:, None]
    given = {
        "input_ids": np.where(mask, source.integers(2, VOCABULARY, (rows, columns)), 0),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.where(mask, source.integers(0, 2, (rows, columns)), 0),
    }
    return {name: given[name] for name in engine.input_names}


def exact(path: Path) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """What ONNX Runtime makes of a graph as it stands.

    Its optimizer merges two roundings in a row into one, and rounds the inputs of products with integer weights, which
    changes answers by more than the native engine's sums do.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda given: session.run(None, given)[0]


def check_answers(path: Path, step: float = STEP) -> None:
    """Every instruction set answers as ONNX Runtime does, but for values that lie between two steps of a grid."""
    reference = exact(path)
    for isa in library.isas():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DEEPSPARSE_ISA", isa.name)
            native = Engine(path, num_cores=2, engine_type="native")
        apart: list[bool] = []
        for seed, (rows, columns) in enumerate(3 * [(1, 1), (2, 15), (7, 33), (30, 12), (1, 200), (4, 70)]):
            given = feeds(native, rows, columns, seed)
            (found,), wanted = native.run(given), reference(given)
            assert found.shape == wanted.shape and found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, atol=step, err_msg=isa.name)
            apart += list(np.abs(found - wanted).max(axis=1) > CLOSE)
        assert sum(apart) <= 0.04 * len(apart), isa.name


def float_linears(encoder: Encoder) -> list[str]:
    return [
        f"{index}.{name}"
        for index, layer in enumerate(encoder.layers)
        for name in LAYER_LINEARS
        if isinstance(getattr(layer, name), FloatLinear)
    ]


@needs_library
@pytest.mark.parametrize("name", NAMES)
def test_answers_of_every_form(made: Callable[..., Path], name: str):
    # With 16 steps in place of 256, one is as large as the answers are apart.
    check_answers(made(name), step=1.5 if name == "4-bit weights and activations" else 2 * STEP)


@needs_library
def test_the_form_for_deepsparse_is_the_same_model(made: Callable[..., Path]):
    name = "only inputs quantized"
    path, portable = made(name, form="deepsparse"), made(name)
    check_answers(path)
    for one, other in zip(recognize(read(path)).layers, recognize(read(portable)).layers, strict=True):
        assert one.grids == other.grids
        assert one.score_scale == pytest.approx(other.score_scale)
        for linear in LAYER_LINEARS:
            mine, wanted = getattr(one, linear), getattr(other, linear)
            assert mine.grid == wanted.grid
            np.testing.assert_array_equal(mine.weights, wanted.weights)
            np.testing.assert_allclose(mine.scales, wanted.scales, rtol=1e-6)


def test_biases_in_integers(made: Callable[..., Path]):
    """As SparseML writes them: added before the product becomes float."""
    graph = read(made("only inputs quantized", form="deepsparse"))
    wanted = recognize(graph).layers[0].intermediate
    scaled = next(
        node
        for node in graph.nodes
        if node.op_type == "Add" and any("intermediate.dense.bias" in name for name in node.inputs)
    )
    product, bias = sorted(scaled.inputs, key=lambda name: "bias" in name)
    by = {name: node for node in graph.nodes for name in node.outputs}
    cast = next(by[name] for name in by[product].inputs if name in by)
    scale = next(graph.constants[name] for name in by[product].inputs if name in graph.constants)
    graph.constants["whole"] = np.rint(graph.constants[bias] / scale).astype(np.int32)
    graph.nodes.append(Node("Add", [cast.inputs[0], "whole"], ["sum"]))
    cast.inputs = ["sum"]
    graph.constants[bias] = graph.constants[bias] * 0
    found = recognize(graph).layers[0].intermediate
    assert found.biases.any()
    np.testing.assert_allclose(found.biases, wanted.biases, atol=0.51 * float(np.max(scale)))


def test_outputs_are_rounded_where_the_recipe_does_not_say_otherwise(made: Callable[..., Path]):
    encoder = recognize(read(made("linear outputs quantized")))
    for layer in encoder.layers:
        for one in (getattr(layer, name) for name in LAYER_LINEARS):
            assert isinstance(one, Linear) and one.rounding is not None
    assert all(isinstance(head.linear, Linear) and head.linear.rounding for head in encoder.head)


def test_what_a_recipe_ignores_is_in_float(made: Callable[..., Path]):
    encoder = recognize(read(made("single linears in float")))
    assert float_linears(encoder) == ["0.output", "1.query"]
    assert all(layer.grids is not None for layer in encoder.layers)


def test_grids_of_fewer_bits(made: Callable[..., Path]):
    (first, *_) = recognize(read(made("reduce_range"))).layers
    assert first.grids is not None and isinstance(first.query, Linear)
    for grid in (first.query.grid, first.query.rounding, first.grids.query, first.grids.probabilities):
        assert grid is not None and (grid.least, grid.most) == (0, 127)
    for grid in (first.grids.key, first.grids.value):
        assert (grid.least, grid.most, grid.zero_point) == (-63, 63, 0)


@pytest.mark.slow
def test_weights_of_four_bits(made: Callable[..., Path]):
    encoder = recognize(read(made("4-bit weights")))
    for layer in encoder.layers:
        assert np.abs(layer.intermediate.weights).max() == 7
    assert np.abs(encoder.words.rows).max() == 7


@pytest.mark.slow
def test_attention_in_float(made: Callable[..., Path]):
    encoder = recognize(read(made("attention in float")))
    assert not float_linears(encoder) and all(layer.grids is None for layer in encoder.layers)


@pytest.mark.slow
def test_layers_below_no_submodule_are_in_float(made: Callable[..., Path]):
    encoder = recognize(read(made("a layer in float")))
    assert float_linears(encoder) == [f"1.{name}" for name in LAYER_LINEARS]
    assert [layer.grids is None for layer in encoder.layers] == [False, True]


@needs_library
@pytest.mark.parametrize(
    "settings", [exports.PRUNED, pytest.param(DENSE, marks=pytest.mark.slow)], ids=["pruned", "dense"]
)
@pytest.mark.parametrize("hidden", [16, pytest.param(72, marks=pytest.mark.slow)])
def test_models_in_float(made: Callable[..., Path], settings: dict[str, Any], hidden: int):
    path = made("float", hidden_size=hidden, intermediate_size=100, num_attention_heads=2, **settings)
    assert len(float_linears(recognize(read(path)))) == 12
    check_answers(path, step=CLOSE)


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in exports.SETTINGS if name != "bert"])
@pytest.mark.parametrize("name", ["linear outputs quantized", "float"])
def test_other_architectures(made: Callable[..., Path], architecture: str, name: str):
    settings = {**exports.SETTINGS[architecture], **(exports.PRUNED if name == "float" else {})}
    path = made(name, architecture, **settings)
    native, reference = Engine(path, num_cores=1, engine_type="native"), exact(path)
    given = feeds(native, 9, 30, 0)
    if settings.get("pad_token_id"):
        given["input_ids"] = np.where(given["attention_mask"] == 0, 1, given["input_ids"])
        given |= {key: array * 0 for key, array in given.items() if key == "token_type_ids"}
    np.testing.assert_allclose(
        native.run(given)[0], reference(given), atol=CLOSE if name == "float" else 2 * STEP
    )


@needs_library
def test_the_same_bits_alone_and_in_a_batch(made: Callable[..., Path]):
    for path in (made("single linears in float"), made("float", **exports.PRUNED)):
        native = Engine(path, num_cores=2, engine_type="native")
        given = feeds(native, 20, 90, 1)
        (together,) = native.run(given)
        for row in range(0, 20, 7):
            (alone,) = native.run({name: array[row : row + 1] for name, array in given.items()})
            np.testing.assert_array_equal(alone[0], together[row])
