"""Tiny classifiers, exported in the portable form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support import encoders, once

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {},
    "electra": {},
    "albert": {},
    "mpnet": {"pad_token_id": 1},
    "modernbert": {"classifier_pooling": "mean"},
}
"""The architectures of the native engine, and what is unusual about these models."""

EVERY = ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS if name != "bert")]
"""For tests of every architecture: an export takes seconds, so all but one are slow."""

FORMS: dict[str, dict[str, Any]] = {
    "linear outputs quantized": {},
    "only inputs quantized": {"quantize_linear_activations": False},
    "reduce_range": {"reduce_range": True},
    "4-bit weights": {"weight_bits": 4, "quantize_linear_activations": False},
    "4-bit weights and activations": {"weight_bits": 4, "activation_bits": 4},
    "attention in float": {"exclude_module_types": ["QATMatMul"], "quantize_linear_activations": False},
    "embeddings in float": {"quantize_embeddings": False, "quantize_linear_activations": False},
    "a layer in float": {
        "submodules": ["bert.embeddings", "bert.encoder.layer.0", "bert.pooler", "classifier"]
    },
    "single linears in float": {
        "ignore": ["bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.attention.self.query"]
    },
    "intermediate linears in float": {
        "ignore": ["bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.1.attention.output.dense"]
    },
    "symmetric activations": {"scheme": "tensorrt"},
    "weights by channel": {"scheme": {"weights": {"symmetric": True, "strategy": "channel"}}},
    "only weights quantized": {"scheme": {"input_activations": None}},
    "only activations quantized": {"scheme": {"weights": None}},
    "weights and outputs quantized": {"scheme": {"input_activations": None, "output_activations": {}}},
}
"""What recipes make of a model: the fields of a QuantizationModifier, by what comes of them."""

FLOAT_HEADS = [
    ("bert", ("bert.encoder",)),
    *(
        pytest.param(architecture, submodules, marks=pytest.mark.slow)
        for architecture, submodules in (
            ("bert", ("bert.embeddings", "bert.encoder", "bert.pooler")),
            ("bert", ("bert.embeddings", "bert.encoder", "classifier")),
            ("distilbert", ("bert.encoder", "bert.pooler")),
            *((name, ("bert.encoder",)) for name in SETTINGS if name != "bert"),
        )
    ),
]
"""What recipes quantize that leave the head in float, or a part of it; of ELECTRA also the projection."""

POSITIONS = 520
"""Tokens that these models have positions for."""

PRUNED: dict[str, Any] = {"quantized": False, "sparsity": 0.9}
"""Settings of a model in float."""


def of_recipe(architecture: str, path: Path, fields: Mapping[str, Any], **settings: Any) -> Path:
    """As `portable`, quantized as a QuantizationModifier of these fields does it."""
    from sparseml.modifiers.quantization import QuantizationModifier

    modifier = QuantizationModifier.model_validate({"start_epoch": 0, **fields})
    submodules = modifier.submodules or ()
    return portable(architecture, path, scheme=modifier.model_scheme(), submodules=submodules, **settings)


def portable(
    architecture: str,
    path: Path,
    inputs: Sequence[str] = INPUTS,
    form: str = "portable",
    outputs: Sequence[str] = ("logits",),
    **settings: Any,
) -> Path:
    """Export a classifier of `encoders` to an ONNX file, and return it.

    Args:
        architecture: a key of `encoders.ARCHITECTURES`.
        path: of the file.
        inputs: what the tokenizer would offer.
        form: of the graph.
        outputs: of the model.
        settings: for `encoders.classifier`.
    """
    import onnx_ir as ir

    from sparseml.export.formats import apply_format

    graph = ir.load(traced(architecture, inputs, outputs, **settings))
    apply_format(graph, form)
    ir.save(graph, path)
    return path


def traced(
    architecture: str,
    inputs: Sequence[str] = INPUTS,
    outputs: Sequence[str] = ("logits",),
    *,
    scheme: Any = None,
    submodules: Sequence[str] = (),
    **settings: Any,
) -> Path:
    """The graph of a classifier as the exporter wrote it, in no form yet; not to be changed.

    Tracing takes five seconds, so that it is done once a session for each model: tests share those of `usual`.
    The arguments are those of `portable`, and the model is `encoders.classifier` of the same.
    """
    from sparseml.quantization.scheme import ModelScheme

    settings = {"quantized": True, "sparsity": 0.8, "spread": False, **settings}
    if settings["quantized"]:
        settings |= {"scheme": scheme or ModelScheme(), "submodules": tuple(submodules)}

    def trace(path: Path) -> None:
        import onnx_ir as ir

        from sparseml.export.trace import input_names, to_onnx

        model = encoders.classifier(architecture, **settings)
        ir.save(to_onnx(model, input_names(model, inputs), outputs=outputs), path)

    return once.made((architecture, tuple(inputs), tuple(outputs), sorted(settings.items())), trace)


def usual(architecture: str, quantized: bool = True) -> dict[str, Any]:
    """Settings of a model for any test that does not need others: biases and norms are random, texts may be long."""
    settings = SETTINGS.get(architecture, {"pad_token_id": 1} if "roberta" in architecture else {})
    common = {"spread": True, "max_position_embeddings": POSITIONS}
    return {**common, **settings, **({} if quantized else PRUNED)}


def check_refused_where_changed(path: Path, kind: str, other: str) -> None:
    """The engine refuses an export in which any one operator of a kind is another one, and takes it unchanged."""
    from deepsparse.errors import UnsupportedError
    from deepsparse.native.onnx_graph import read
    from deepsparse.native.recognition import recognize

    graph = read(path)
    for node in graph.nodes:
        if node.op_type == kind:
            node.op_type = other
            with pytest.raises(UnsupportedError):
                recognize(graph)
            node.op_type = kind
    recognize(graph)
