"""Putting fake-quantized modules into a model, switching them on, and saving and loading their ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sparseml.quantization.fake_quantize import BUFFERS, FakeQuantize
from sparseml.quantization.modules import (
    ATTRIBUTE,
    QUANTIZED_ATTENTION,
    AttentionQuantizers,
    QuantizedEmbedding,
    QuantizedLinear,
    attention_implementation,
    quantize_embedding,
    quantize_linear,
    set_attention,
)
from sparseml.quantization.scheme import ModelScheme

_PROBE = "resparse_probe"
_TOKENS = 4


@dataclass
class Structure:
    """The quantized modules of one model.

    Attributes:
        linears, embeddings, attentions: paths of the modules that were made quantized.
        other_attention: whether attention stays in floating point because the architecture does not use
            Transformers' attention interface.
    """

    linears: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    attentions: list[str] = field(default_factory=list)
    other_attention: bool = False


def quantize_structure(model: Any, roots: Mapping[str, nn.Module], scheme: ModelScheme) -> Structure:
    """Make the layers at or below `roots` (path to module) fake-quantized; what the model computes stays the same.

    They are not yet enabled.
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
    """Whether a model has quantizers, enabled or not."""
    return any(True for _ in quantizers_of(model))


def enable(model: nn.Module) -> None:
    """Start fake-quantizing: weights by their current range, activations from the first batch on."""
    for _, quantizer in quantizers_of(model):
        quantizer.enabled = True
    for weight, quantizer in _quantized_weights(model):
        if torch.isnan(quantizer.minimum).any():
            quantizer.observe(weight.detach())
    set_attention(model, QUANTIZED_ATTENTION)


def set_observing(model: nn.Module, observing: bool) -> None:
    """Let ranges follow the training's batches, or freeze them."""
    for _, quantizer in quantizers_of(model):
        quantizer.observing = observing


@torch.no_grad()
def clip_weights(model: nn.Module) -> None:
    """Clip weights to the ranges of their quantizers, in place; what the model computes stays the same.

    Fake quantization clips a weight that grew beyond its frozen range to -127; ONNX's QuantizeLinear would
    saturate at -128.
    """
    for weight, quantizer in _quantized_weights(model):
        if quantizer.enabled:
            low = (quantizer.scheme.low - quantizer.zero_point) * quantizer.scale
            high = (quantizer.scheme.high - quantizer.zero_point) * quantizer.scale
            weight.clamp_(low, high)


def _quantized_weights(model: nn.Module) -> Iterator[tuple[Tensor, FakeQuantize]]:
    for module in model.modules():
        if isinstance(module, (QuantizedLinear, QuantizedEmbedding)) and module.weight_quantizer is not None:
            yield module.weight, module.weight_quantizer


@contextmanager
def calibrating(model: nn.Module) -> Iterator[None]:
    """Context with the model in evaluation mode (no dropout) but observing; afterwards ranges are frozen."""
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
    """Load what `quantization_state` gave; returns the keys that the model expects and `state` lacks."""
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


@dataclass
class Wiring:
    """How a model's layers are connected.

    Attributes:
        same_input: groups of paths of Linear layers with one input tensor, such as query, key and value.
        attention: paths of the modules that call Transformers' attention interface.
    """

    same_input: list[list[str]] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)


@torch.no_grad()
def probe(model: Any) -> Wiring:
    """Find how a Transformers encoder is wired by one forward pass of four tokens, in evaluation mode."""
    paths = {module: path for path, module in model.named_modules()}
    fed: dict[int, list[str]] = {}
    inputs: list[Tensor] = []  # kept alive, so that their ids stay unique
    attending: list[str] = []

    def watch(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs.append(arguments[0])
        group = fed.setdefault(id(arguments[0]), [])
        if paths[layer] not in group:
            group.append(paths[layer])

    def attend(module: nn.Module, *arguments: Any, **kwargs: Any) -> Any:
        # Causal attention is a decoder's; this project quantizes encoders.
        if paths[module] not in attending and not getattr(module, "is_causal", False):
            attending.append(paths[module])
        return sdpa_attention_forward(module, *arguments, **kwargs)

    hooks = [layer.register_forward_pre_hook(watch) for layer in paths if type(layer) is nn.Linear]
    was_training = model.training
    before = attention_implementation(model)
    AttentionInterface.register(_PROBE, attend)
    try:
        set_attention(model, _PROBE)
        model.eval()
        model(**_inputs(model))
    finally:
        model.train(was_training)
        set_attention(model, before)
        for hook in hooks:
            hook.remove()
    return Wiring([group for group in fed.values() if len(group) > 1], attending)


def _inputs(model: Any) -> dict[str, Tensor]:
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    padding = getattr(model.config, "pad_token_id", None)
    token = next(index for index in range(vocabulary) if index != padding)
    device = model.get_input_embeddings().weight.device
    ids = torch.full((1, _TOKENS), token, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _with_parents(path: str) -> Iterator[str]:
    """The path, its parents' paths, and at last the root's, which is empty."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield path


def _below(path: str, roots: Mapping[str, nn.Module]) -> bool:
    return any(root in ("", path) or path.startswith(f"{root}.") for root in roots)
