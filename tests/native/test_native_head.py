"""Heads whose linear layers are in float, or some of them: how graphs spell them, and what the engine computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsparse.errors import ModelError, UnsupportedError
from deepsparse.native import library, packing
from deepsparse.native.encoder import Activation, Encoder, FloatLinear, Grid, Head, Linear
from deepsparse.native.library import WeightFormat
from deepsparse.native.onnx_graph import Graph, Node, read
from deepsparse.native.packing import build
from deepsparse.native.recognition import recognize
from deepsparse.native.records import LayerRecord, ModelRecord
from support import exports
from support.encoders import VOCABULARY

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

ENCODER_ONLY = ("bert", "bert.encoder")
"""An export whose head is in float."""


# What is recognized.


@pytest.mark.parametrize(("architecture", "submodules"), exports.FLOAT_HEADS)
def test_what_recipes_leave_in_float(
    exported: Callable[..., Path], architecture: str, submodules: tuple[str, ...]
):
    encoder = recognize(read(exported(architecture, *submodules)))
    first, last = (isinstance(head.linear, Linear) for head in encoder.head)
    # A recipe's "pooler" is DistilBERT's first linear, too; RoBERTa's and ELECTRA's are parts of the classifier.
    assert [first, last] == ["bert.pooler" in submodules, "classifier" in submodules]
    if architecture == "electra":
        assert isinstance(encoder.projection, FloatLinear)
    if architecture == "albert":
        assert isinstance(encoder.projection, Linear), "which is a part of its encoder"


def _as_gemm(graph: Graph, node: Node, weights: np.ndarray, bias: str) -> None:
    node.inputs = [node.inputs[0], "other", bias]
    node.attributes |= {"transB": 0}
    graph.constants["other"] = weights.T


def _as_sum(graph: Graph, node: Node, weights: np.ndarray, bias: str) -> None:
    node.op_type, node.attributes = "MatMul", {}
    graph.constants["other"] = weights.T
    _add_bias(graph, node, "other", bias)


def _with_a_transposition(graph: Graph, node: Node, weights: np.ndarray, bias: str) -> None:
    node.op_type, node.attributes = "MatMul", {}
    graph.constants["other"] = weights
    graph.nodes.append(Node("Transpose", ["other"], ["turned"], {"perm": [1, 0]}))
    _add_bias(graph, node, "turned", bias)


def _add_bias(graph: Graph, node: Node, weights: str, bias: str) -> None:
    graph.nodes.append(Node("Add", [bias, "product"], node.outputs, {}))
    node.inputs, node.outputs = [node.inputs[0], weights], ["product"]


@pytest.mark.parametrize("spell", [_as_gemm, _as_sum, _with_a_transposition])
@pytest.mark.parametrize("place", [0, 1])
def test_every_spelling_is_the_same_layer(
    exported: Callable[..., Path], spell: Callable[..., None], place: int
):
    graph = read(exported(*ENCODER_ONLY))
    wanted = recognize(graph).head
    node = [node for node in graph.nodes if node.op_type == "Gemm"][place]
    weights = graph.constants[node.inputs[1]]
    spell(graph, node, weights, node.inputs[2])
    found = recognize(graph).head
    assert [head.activation for head in found] == [head.activation for head in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one.linear, FloatLinear)
        np.testing.assert_array_equal(one.linear.weights, other.linear.weights)
        np.testing.assert_array_equal(one.linear.biases, other.linear.biases)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda graph, node: node.attributes.update(alpha=0.5), "factors of its own"),
        (lambda graph, node: graph.constants.update({node.inputs[1]: np.zeros((3, 16))}), "float32"),
        (lambda graph, node: graph.constants.update({node.inputs[1]: np.zeros(16, np.float32)}), "no matrix"),
        (lambda graph, node: graph.constants.update({node.inputs[2]: np.zeros(4, np.float32)}), "3 float32"),
        (lambda graph, node: graph.constants.pop(node.inputs[1]), "no constant"),
    ],
)
def test_what_is_no_such_layer(exported: Callable[..., Path], spoil: Callable[[Graph, Node], Any], part: str):
    graph = read(exported(*ENCODER_ONLY))
    spoil(graph, [node for node in graph.nodes if node.op_type == "Gemm"][-1])
    with pytest.raises(UnsupportedError) as caught:
        recognize(graph)
    assert part in caught.value.reason


def test_float_weights_on_quantized_inputs_keep_the_rounding(exported: Callable[..., Path]):
    graph = read(exported("bert"))
    quantized = recognize(graph).head[-1].linear
    read_weights = next(
        node for node in reversed(graph.nodes) if node.inputs[0].startswith("classifier.weight")
    )
    graph.constants[read_weights.outputs[0]] = graph.constants[read_weights.inputs[0]].astype(np.float32)
    graph.nodes.remove(read_weights)
    found = recognize(graph).head[-1].linear
    assert isinstance(quantized, Linear) and isinstance(found, FloatLinear)
    assert found.grid == quantized.grid


# What is computed.

_FUNCTIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    Activation.NONE: lambda x: x,
    Activation.TANH: np.tanh,
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.GELU: lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
}

CLOSE, STEP = 1e-4, 0.03
"""As in test_native_backend: sums in another order, and what one tipped integer of an input may come to."""


def made_head(kinds: Sequence[tuple[int, bool, Activation]], width: int, seed: int) -> tuple[Head, ...]:
    """Random linear layers: of each the outputs, whether it is in float, and the activation after it."""
    source = np.random.default_rng(seed)
    head = []
    for outputs, is_float, kind in kinds:
        weights = source.normal(0, width**-0.5, (width, outputs)).astype(np.float32).T
        biases = source.normal(0, 0.5, outputs).astype(np.float32)
        linear: Linear | FloatLinear = FloatLinear(weights, biases)
        if not is_float:
            scales = np.abs(weights).max(axis=1) / 127
            integers = np.rint(weights / scales[:, None]).astype(np.int8)
            linear = Linear(integers, biases, scales, Grid(0.02, 100))
        head.append(Head(linear, kind))
        width = outputs
    return tuple(head)


def answers_of(head: Sequence[Head], x: np.ndarray) -> np.ndarray:
    """What a head makes of rows, float32 [texts, width]."""
    for one in head:
        linear = one.linear
        if isinstance(linear, Linear):
            inverse = np.float32(1) / np.float32(linear.grid.scale)
            integers = np.clip(np.rint(x.astype(np.float32) * inverse) + linear.grid.zero_point, 0, 255)
            centred = (integers - linear.grid.zero_point) * linear.grid.scale
            x = centred @ (linear.weights.T * linear.scales.astype(np.float64)) + linear.biases
        else:
            x = x @ linear.weights.T.astype(np.float64) + linear.biases
        x = _FUNCTIONS[one.activation](x)
    return x


def run(encoder: Encoder, isa: library.InstructionSet, texts: int, threads: int, seed: int) -> np.ndarray:
    """Logits of random texts of one to three tokens."""
    source = np.random.default_rng(seed)
    lengths = source.integers(1, 4, texts)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = source.integers(0, VOCABULARY, starts[-1]).astype(np.int32)
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    model = library.Model(build(encoder, isa), encoder.labels)
    return model.run(ids, None, positions, starts, threads)


KINDS = st.tuples(st.integers(1, 70), st.booleans(), st.sampled_from(list(_FUNCTIONS)))


@pytest.fixture(scope="module")
def bert(exported: Callable[..., Path]) -> Encoder:
    return recognize(read(exported(*ENCODER_ONLY)))


@needs_library
@settings(deadline=None, max_examples=40)
@given(
    st.lists(KINDS, min_size=1, max_size=4), st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32 - 1)
)
def test_any_head_gives_what_numpy_does(
    bert: Encoder,
    kinds: list[tuple[int, bool, Activation]],
    texts: int,
    threads: int,
    seed: int,
):
    """What enters the head is seen through one that changes nothing."""
    head = made_head(kinds, bert.hidden, seed)
    nothing = FloatLinear(np.eye(bert.hidden, dtype=np.float32), np.zeros(bert.hidden, np.float32))
    plain = replace(bert, head=(Head(nothing, Activation.NONE),))
    tips = any(isinstance(one.linear, Linear) for one in head[1:])
    for isa in library.isas():
        wanted = answers_of(head, run(plain, isa, texts, threads, seed))
        found = run(replace(bert, head=head), isa, texts, threads, seed)
        np.testing.assert_allclose(found, wanted, atol=STEP if tips else CLOSE, err_msg=isa.name)


# What is damaged.


def _no_biases(model: ModelRecord) -> None:
    model.head[0].linear.biases = 0


def _cut_short(model: ModelRecord) -> None:
    model.head[1].linear.weights_size -= 64


def _reaching_out(model: ModelRecord) -> None:
    model.head[0].linear.weights = model.size - 64


def _of_another_form(model: ModelRecord) -> None:
    model.head[0].linear.format = WeightFormat.DENSE


def _unknown(model: ModelRecord) -> None:
    model.head[0].linear.format = 4711


def _for_unknown_tokens(model: ModelRecord) -> None:
    model.head_tokens = 3


def _other_width(model: ModelRecord) -> None:
    model.head[0].linear.columns += 1


@needs_library
@pytest.mark.parametrize(
    "damage",
    [
        _no_biases,
        _cut_short,
        _reaching_out,
        _of_another_form,
        _unknown,
        _for_unknown_tokens,
        _other_width,
    ],
)
def test_damaged_heads_are_refused(bert: Encoder, damage: Callable[[ModelRecord], None]):
    block = build(bert, library.isas()[0])
    damage(ModelRecord.from_buffer(block.data))
    with pytest.raises(ModelError, match="refuses"):
        library.Model(block, bert.labels)


def _no_heads(layer: LayerRecord) -> None:
    layer.heads = 0


def _heads_of_three(layer: LayerRecord) -> None:
    layer.heads = 5


def _keys_aside(layer: LayerRecord) -> None:
    layer.key_grid.zero_point = 1


def _wide_grid(layer: LayerRecord) -> None:
    layer.query.input.most = 256


def _negative_scale(layer: LayerRecord) -> None:
    layer.intermediate.output.scale = -1


def _no_number(layer: LayerRecord) -> None:
    layer.score_scale = math.nan


def _floats_of_integers(layer: LayerRecord) -> None:
    layer.query.format = WeightFormat.FLOAT


def _sparse_floats_of_integers(layer: LayerRecord) -> None:
    layer.query.format = WeightFormat.SPARSE_FLOAT


@needs_library
@pytest.mark.parametrize(
    "damage",
    [
        _no_heads,
        _heads_of_three,
        _keys_aside,
        _wide_grid,
        _negative_scale,
        _no_number,
        _floats_of_integers,
        _sparse_floats_of_integers,
    ],
)
def test_damaged_layers_are_refused(bert: Encoder, damage: Callable[[LayerRecord], None]):
    block = build(bert, library.isas()[0])
    model = ModelRecord.from_buffer(block.data)
    damage(LayerRecord.from_buffer(block.data, model.layer_records))
    with pytest.raises(ModelError, match="refuses"):
        library.Model(block, bert.labels)


@needs_library
def test_layers_in_a_format_that_the_kernels_do_not_read_are_refused(
    bert: Encoder, monkeypatch: pytest.MonkeyPatch
):
    for isa in library.isas():
        for form in {form for form in WeightFormat if not form.is_float} - {*isa.formats}:
            monkeypatch.setattr(packing, "fastest", lambda isa, matrices, form=form: [form] * len(matrices))
            with pytest.raises(ModelError, match="do not read"):
                library.Model(build(bert, isa), bert.labels)
