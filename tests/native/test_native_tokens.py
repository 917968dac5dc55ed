"""Heads that are applied to every token, as of token classification, against ONNX Runtime on the same graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Engine
from deepsparse.errors import UnsupportedError
from deepsparse.native import library
from deepsparse.native.encoder import FloatLinear, Linear
from deepsparse.native.onnx_graph import read
from deepsparse.native.recognition import recognize
from support import exports
from support.encoders import LABELS, VOCABULARY
from support.reference import reference_engine

onnx = pytest.importorskip("onnx")
from onnx import helper, numpy_helper  # noqa: E402

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

CLOSE, STEP = 1e-4, 0.03
"""What float32 sums in another order come to, and what one step of an 8-bit grid may."""


def for_tokens(path: Path, to: Path) -> Path:
    """A text classifier's graph, its last linear layer applied to all that the encoder gives."""
    model = onnx.load(path)
    graph = model.graph
    made_by: dict[str, Any] = {name: node for node in graph.node for name in node.output}
    (first,) = (node for node in graph.node if node.op_type == "Gather" and node.input[0] in made_by)
    last = made_by[graph.output[0].name]
    assert last.op_type == "Gemm"
    hidden = first.input[0]
    read_input = made_by[last.input[0]]
    if read_input.op_type == "DequantizeLinear":
        made_by[read_input.input[0]].input[0] = hidden
    else:
        last.input[0] = hidden
    # Gemm takes matrices only: MatMul and Add do the same with its weights transposed, as exporters store them.
    assert any(one.name == "transB" and one.i for one in last.attribute)
    weights = made_by[last.input[1]].input[0] if last.input[1] in made_by else last.input[1]
    (stored,) = (one for one in graph.initializer if one.name == weights)
    stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored).T.copy(), weights))
    graph.node.remove(last)
    graph.node.append(helper.make_node("MatMul", last.input[:2], ["product"]))
    graph.node.append(helper.make_node("Add", ["product", last.input[2]], last.output))
    kind = onnx.TensorProto.FLOAT
    output = helper.make_tensor_value_info(graph.output[0].name, kind, ["batch", "tokens", LABELS])
    graph.output[0].CopyFrom(output)
    onnx.save(model, to)
    return to


@pytest.fixture(params=[(), ("bert.encoder",)], ids=["quantized", "float"])
def token_model(request: pytest.FixtureRequest, exported: Callable[..., Path], tmp_path: Path) -> Path:
    return for_tokens(exported("bert", *request.param), tmp_path / "model.onnx")


def feeds(rows: int, columns: int, seed: int, left: bool = False) -> dict[str, np.ndarray]:
    """Random tokens, every row but the first of another length."""
    source = np.random.default_rng(seed)
    lengths = source.integers(1, columns + 1, rows)
    lengths[0] = columns
    mask = np.arange(columns) < lengths[:, None]
    mask = mask[:, ::-1] if left else mask
    ids = np.where(mask, source.integers(2, VOCABULARY, (rows, columns)), 0)
    return {
        "input_ids": ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros_like(ids),
    }


def test_the_head_is_recognized(token_model: Path, exported: Callable[..., Path]):
    encoder = recognize(read(token_model))
    assert encoder.every_token and encoder.labels == LABELS
    (head,) = encoder.head
    assert isinstance(head.linear, (Linear, FloatLinear))
    assert not recognize(read(exported("bert"))).every_token


@needs_library
@pytest.mark.parametrize("isa", library.isas() if library.file() else [], ids=lambda isa: isa.name)
def test_logits_are_those_of_onnxruntime(
    token_model: Path, isa: library.InstructionSet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEEPSPARSE_ISA", isa.name)
    native = Engine(token_model, num_cores=2)
    assert native.engine_type == "native"
    reference = reference_engine(token_model)
    apart: list[bool] = []
    # The last is more than the engine computes at once.
    for seed, (rows, columns) in enumerate([(1, 1), (2, 15), (7, 33), (1, 300), (60, 40)]):
        given = feeds(rows, columns, seed)
        mask = given["attention_mask"].astype(bool)
        (found,), (wanted,) = native.run(given), reference.run(given)
        assert found.shape == wanted.shape == (rows, columns, LABELS) and found.dtype == wanted.dtype
        assert not found[~mask].any(), "padding is 0"
        np.testing.assert_allclose(found[mask], wanted[mask], atol=STEP)
        apart += list(np.abs(found - wanted)[mask].max(axis=1) > CLOSE)
    assert sum(apart) <= 0.04 * len(apart)


@needs_library
def test_padding_on_the_left_moves_the_logits_with_the_tokens(token_model: Path):
    native = Engine(token_model, num_cores=1)
    right = feeds(4, 12, 0)
    mask = right["attention_mask"].astype(bool)
    moved = {}
    for name, array in right.items():
        moved[name] = np.zeros_like(array)
        moved[name][mask[:, ::-1]] = array[mask]
    (straight,), (turned,) = native.run(right), native.run(moved)
    np.testing.assert_array_equal(turned[mask[:, ::-1]], straight[mask])


@needs_library
def test_the_same_bits_alone_and_in_a_batch(token_model: Path):
    native = Engine(token_model, num_cores=2)
    given = feeds(30, 50, 1)
    (together,) = native.run(given)
    for row in range(0, 30, 7):
        (alone,) = native.run({name: array[row : row + 1] for name, array in given.items()})
        np.testing.assert_array_equal(alone[0], together[row])


@needs_library
def test_no_rows(token_model: Path):
    native = Engine(token_model, num_cores=1)
    empty = {name: np.empty((0, 5), np.int64) for name in native.input_names}
    assert native.run(empty)[0].shape == (0, 5, LABELS)


# Heads as Transformers' models have them.

SPANS = {"head": "QuestionAnswering", "outputs": ("start_logits", "end_logits"), "num_labels": 2}
TAGS = {"head": "TokenClassification", "num_labels": 5}


@pytest.fixture(
    scope="module", params=[SPANS, pytest.param(TAGS, marks=pytest.mark.slow)], ids=["spans", "tags"]
)
def whole_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heads") / "model.onnx"
    return exports.portable(
        "bert", path, spread=True, max_position_embeddings=exports.POSITIONS, **request.param
    )


@needs_library
def test_whole_models_of_tokens(whole_model: Path):
    native = Engine(whole_model, num_cores=2, engine_type="native")
    reference = reference_engine(whole_model)
    assert native.outputs == reference.outputs
    for seed, (rows, columns) in enumerate([(1, 1), (3, 20), (40, 30)]):
        given = feeds(rows, columns, seed)
        mask = given["attention_mask"].astype(bool)
        for found, wanted in zip(native.run(given), reference.run(given), strict=True):
            assert found.shape == wanted.shape and found.dtype == wanted.dtype
            np.testing.assert_allclose(found[mask], wanted[mask], atol=STEP)
            assert not found[~mask].any()


@pytest.mark.slow
def test_outputs_that_are_no_columns_are_refused(whole_model: Path):
    graph = read(whole_model)
    graph.outputs.append(graph.outputs[0])
    with pytest.raises(UnsupportedError):
        recognize(graph)
