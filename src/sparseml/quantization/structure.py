"""Putting fake-quantized modules into a model, and finding them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparseml.quantization.attention import ATTRIBUTE, AttentionQuantizers
from sparseml.quantization.fake_quantize import BUFFERS, FakeQuantize
from sparseml.quantization.modules import (
    QuantizedEmbedding,
    QuantizedLinear,
    quantize_embedding,
    quantize_linear,
)
from sparseml.quantization.probe import probe, use_quantized_attention
from sparseml.quantization.scheme import ModelScheme


@dataclass
class Structure:
    """The quantized modules of one model.

    Attributes:
        linears, embeddings, attentions: paths of the modules that were made quantized.
        other_attention: whether the model has attention that could not be reached, because its
            architecture is not on Transformers' attention interface.
    """

    linears: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    attentions: list[str] = field(default_factory=list)
    other_attention: bool = False


def quantize_structure(model: Any, roots: Mapping[str, nn.Module], scheme: ModelScheme) -> Structure:
    """Make the layers below `roots` fake-quantized, not yet enabled: the model computes what it did.

    Args:
        model: a Transformers model.
        roots: path to module: everything at or below them is quantized as the scheme says.
        scheme: how.
    """
    structure = Structure()
    wiring = probe(model)
    group_of = {path: index for index, group in enumerate(wiring.same_input) for path in group}
    shared: dict[tuple[int, Any], FakeQuantize] = {}
    class_of = {path: type(module).__name__ for path, module in model.named_modules()}
    for path, module in list(model.named_modules()):
        classes = {class_of[around] for around in _with_parents(path)}
        if not _below(path, roots) or scheme.ignores(path, classes):
            continue
        if type(module) is nn.Linear:
            layer = scheme.for_layer(path, classes, is_embedding=False)
            key = (group_of.get(path, -1), layer.inputs)
            quantizer = shared.get(key)
            quantize_linear(module, layer, quantizer)
            if quantizer is not None:
                quantizer.sharers += 1
            elif path in group_of and isinstance(module.input_quantizer, FakeQuantize):
                shared[key] = module.input_quantizer
            structure.linears.append(path)
        elif type(module) is nn.Embedding:
            embedding = scheme.for_layer(path, classes, is_embedding=True)
            if embedding.weights is not None:
                quantize_embedding(module, embedding)
                structure.embeddings.append(path)
        elif path in wiring.attention and scheme.attention:
            quantizers = AttentionQuantizers(scheme.attention_left, scheme.attention_right)
            setattr(module, ATTRIBUTE, quantizers.to(model.device))
            structure.attentions.append(path)
    structure.other_attention = scheme.attention and not wiring.attention
    return structure


def quantizers_of(model: nn.Module) -> Iterator[tuple[str, FakeQuantize]]:
    """Every FakeQuantize of a model with its path, a shared one once."""
    for path, module in model.named_modules():
        if isinstance(module, FakeQuantize):
            yield path, module


def is_quantized(model: nn.Module) -> bool:
    """Whether a structure is in place, enabled or not."""
    return any(True for _ in quantizers_of(model))


def enable(model: nn.Module) -> None:
    """Start fake-quantizing: weights by their present range, activations from the first batch that is seen."""
    for _, quantizer in quantizers_of(model):
        quantizer.enabled = True
    for module in model.modules():
        if not isinstance(module, (QuantizedLinear, QuantizedEmbedding)) or module.weight_quantizer is None:
            continue
        if torch.isnan(module.weight_quantizer.minimum).any():
            module.weight_quantizer.observe(module.weight.detach())
    use_quantized_attention(model)


def set_observing(model: nn.Module, observing: bool) -> None:
    """Let ranges move with what is seen in training, or hold them."""
    for _, quantizer in quantizers_of(model):
        quantizer.observing = observing


@contextmanager
def calibrating(model: nn.Module) -> Iterator[None]:
    """Within: the model in evaluation mode (no dropout), its ranges moving all the same; afterwards they are held."""
    was_training = model.training
    model.eval()
    for _, quantizer in quantizers_of(model):
        quantizer.train()
    try:
        yield
    finally:
        model.train(was_training)
        set_observing(model, False)


def quantization_state(model: nn.Module) -> dict[str, Tensor]:
    """Ranges, scales and zero points by path, on the CPU."""
    return {
        f"{path}.{name}": getattr(quantizer, name).detach().cpu().clone()
        for path, quantizer in quantizers_of(model)
        for name in BUFFERS
    }


def load_quantization_state(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Take back what `quantization_state` gave; returns the keys that the model expects and `state` lacks."""
    missing = []
    for path, quantizer in quantizers_of(model):
        for name in BUFFERS:
            value = state.get(f"{path}.{name}")
            buffer = getattr(quantizer, name)
            if value is None or value.shape != buffer.shape:
                missing.append(f"{path}.{name}")
            else:
                buffer.copy_(value)
    return missing


def _with_parents(path: str) -> Iterator[str]:
    """The path, its parents' paths, and at last the root's, which is empty."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield path


def _below(path: str, roots: Mapping[str, nn.Module]) -> bool:
    return any(root in ("", path) or path.startswith(f"{root}.") for root in roots)
