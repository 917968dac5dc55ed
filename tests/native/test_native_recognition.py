"""From exported graphs to encoders: what is recognized, and what is refused with which reason."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import Activation, Encoder, HeadTokens, Positions
from deepsparse.native.onnx_graph import read
from deepsparse.native.recognition import recognize
from support import exports

torch = pytest.importorskip("torch")
pytest.importorskip("onnx_ir")

HEADS = {
    "bert": [Activation.TANH, Activation.NONE],
    "roberta": [Activation.TANH, Activation.NONE],
    "distilbert": [Activation.RELU, Activation.NONE],
    "electra": [Activation.GELU, Activation.NONE],
    "albert": [Activation.TANH, Activation.NONE],
    "mpnet": [Activation.TANH, Activation.NONE],
    "modernbert": [Activation.GELU, Activation.NONE],
}


def exported_with(tmp_path: Path, architecture: str = "bert", **settings: Any) -> Path:
    return exports.portable(architecture, tmp_path / "model.onnx", **{"num_hidden_layers": 1, **settings})


def reason(path: Path) -> str:
    with pytest.raises(UnsupportedError) as caught:
        recognize(read(path))
    return caught.value.reason


@pytest.mark.parametrize("architecture", exports.EVERY)
def test_every_architecture(exported: Callable[[str], Path], architecture: str):
    encoder = recognize(read(exported(architecture)))
    assert [len(encoder.layers), encoder.hidden, encoder.labels] == [2, 16, 3]
    assert {layer.heads for layer in encoder.layers} == {2}
    usual = Activation.GELU_TANH if architecture == "albert" else Activation.GELU
    assert {layer.activation for layer in encoder.layers} == {usual}
    assert [head.activation for head in encoder.head] == HEADS[architecture]
    narrow = architecture in ("electra", "albert")
    assert encoder.words.rows.shape == (40, 8 if narrow else 16)
    assert encoder.words.rows.dtype == np.int8
    assert (encoder.projection is not None) == narrow
    assert (encoder.types is None) == (architecture in ("distilbert", "mpnet", "modernbert"))
    counted = architecture in ("roberta", "mpnet")
    assert encoder.numbering == (Positions(1, 1) if counted else Positions())
    first, second = encoder.layers
    is_modern = architecture == "modernbert"
    assert encoder.keeps_sums == is_modern and (encoder.positions is None) == is_modern
    assert encoder.head_tokens == (HeadTokens.MEAN if is_modern else HeadTokens.FIRST)
    assert (first.window, second.window) == ((None, 4) if is_modern else (None, None))
    assert {(layer.gate is None, layer.frequencies is None) for layer in encoder.layers} == {
        2 * (not is_modern,)
    }
    assert {layer.bias is None for layer in encoder.layers} == {architecture != "mpnet"}
    assert encoder.reach == (exports.POSITIONS if architecture == "mpnet" else None)


@pytest.mark.slow
def test_the_numbers_are_those_of_the_trained_model(tmp_path: Path):
    """Weights, scales and biases, in the places where they belong: every name in the file is made up."""
    from support import encoders

    path = exported_with(tmp_path, spread=True)
    model = encoders.classifier("bert", spread=True, num_hidden_layers=1)
    encoder = recognize(read(path))
    (layer,), trained = encoder.layers, model.bert.encoder.layer[0]
    pairs = [
        (layer.query, trained.attention.self.query),
        (layer.key, trained.attention.self.key),
        (layer.value, trained.attention.self.value),
        (layer.attention_output, trained.attention.output.dense),
        (layer.intermediate, trained.intermediate.dense),
        (layer.output, trained.output.dense),
        (encoder.head[0].linear, model.bert.pooler.dense),
        (encoder.head[1].linear, model.classifier),
    ]
    for found, wanted in pairs:
        step = wanted.weight_quantizer.scale.item()
        np.testing.assert_allclose(
            found.weights * found.scales[:, None], wanted.weight.detach(), atol=0.51 * step
        )
        np.testing.assert_array_equal(found.biases, wanted.bias.detach())
        assert found.grid.scale == wanted.input_quantizer.scale.item()
        assert found.grid.zero_point == wanted.input_quantizer.zero_point.item()
    norms = [
        (encoder.embedding_norm, model.bert.embeddings.LayerNorm),
        (layer.attention_norm, trained.attention.output.LayerNorm),
        (layer.output_norm, trained.output.LayerNorm),
    ]
    for norm, wanted in norms:
        np.testing.assert_array_equal(norm.weight, wanted.weight.detach())
        np.testing.assert_array_equal(norm.bias, wanted.bias.detach())
    assert layer.score_scale == pytest.approx(8**-0.5)


@pytest.mark.slow
def test_one_scale_a_channel_and_ranges_around_0(tmp_path: Path):
    from sparseml.quantization.scheme import LayerScheme, ModelScheme, TensorScheme

    by_channel = LayerScheme(
        TensorScheme(symmetric=True, strategy="channel"), TensorScheme(symmetric=True), None
    )
    path = exported_with(tmp_path, scheme=ModelScheme(linear=by_channel))
    encoder = recognize(read(path))
    for linear in (encoder.layers[0].intermediate, encoder.head[0].linear):
        assert len(set(linear.scales.tolist())) > linear.outputs // 2
        assert linear.grid.zero_point == 128, "int8 around 0 is uint8 around 128"


@pytest.mark.slow
def test_token_types_that_are_no_input(tmp_path: Path):
    for architecture in ("bert", "roberta"):
        path = exported_with(tmp_path, architecture, inputs=exports.INPUTS[:2])
        encoder = recognize(read(path))
        assert encoder.types is not None and not encoder.takes_types


@pytest.mark.slow
def test_tables_in_float(tmp_path: Path):
    from sparseml.quantization.scheme import ModelScheme

    encoder: Encoder = recognize(read(exported_with(tmp_path, scheme=ModelScheme(embedding=None))))
    assert encoder.words.scale == 0 and encoder.words.rows.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "settings", "part"),
    [
        ("bert", {"hidden_act": "quick_gelu"}, "activation"),
        ("bert", {"num_attention_heads": 8}, "multiple of 4"),
        ("deberta-v2", {}, "Softmax"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    tmp_path: Path, architecture: str, settings: dict[str, Any], part: str
):
    assert part in reason(exported_with(tmp_path, architecture, **settings))


@pytest.mark.parametrize("kind", ["Softmax", "Tanh", "LayerNormalization", "Erf", "Sub", "QuantizeLinear"])
def test_an_export_that_was_changed(exported: Callable[[str], Path], kind: str):
    exports.check_refused_where_changed(exported("bert"), kind, "Neg")


UNREAD = {"Shape", "Concat", "Reshape", "Slice", "Unsqueeze", "Expand"}
"""Operators that shape tensors: of some of their inputs it does not matter here where they come from."""


def test_graphs_that_depend_on_themselves_end(exported: Callable[[str], Path]):
    """Every single input of every node is bent to the node's own output, one at a time."""
    graph = read(exported("bert"))
    for node in graph.nodes:
        for index, name in enumerate(node.inputs):
            node.inputs[index] = node.outputs[0]
            refused = suppress if node.op_type in UNREAD else pytest.raises
            with refused(UnsupportedError):
                recognize(graph)
            node.inputs[index] = name
    recognize(graph)


def test_nodes_without_inputs(exported: Callable[[str], Path]):
    graph = read(exported("bert"))
    for node in graph.nodes:
        if node.op_type not in UNREAD:
            inputs, node.inputs = node.inputs, []
            with pytest.raises(UnsupportedError):
                recognize(graph)
            node.inputs = inputs
    recognize(graph)
