"""One tiny forward pass that shows how a model is wired, whatever its architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils import logging

from sparseml.quantization.attention import NAME

_PROBE = "resparse_probe"
_TOKENS = 4


@dataclass
class Wiring:
    """What the pass showed.

    Attributes:
        same_input: groups of paths of Linear layers that are fed by one and the same tensor.
        attention: paths of the modules that call Transformers' attention interface.
    """

    same_input: list[list[str]] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)


@torch.no_grad()
def probe(model: Any) -> Wiring:
    """Run four tokens through a Transformers encoder in evaluation mode and watch."""
    paths = {module: path for path, module in model.named_modules()}
    fed: dict[int, list[str]] = {}
    inputs: list[Tensor] = []  # kept alive, so that no id is given out twice
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
        # The mask function goes with the name NAME; the probe needs no mask of its own.
        set_attention(model, _PROBE)
        model.eval()
        model(**_inputs(model))
    finally:
        model.train(was_training)
        set_attention(model, before)
        for hook in hooks:
            hook.remove()
    return Wiring([group for group in fed.values() if len(group) > 1], attending)


def attention_implementation(model: Any) -> str:
    """The name of the attention function that the model uses."""
    return str(model.config._attn_implementation)


def set_attention(model: Any, name: str) -> None:
    """Make the model use an attention function, where its architecture is on the interface at all."""
    if not getattr(model, "_supports_attention_backend", False):
        return
    with _quiet():
        model.set_attn_implementation(name)


def use_quantized_attention(model: Any) -> None:
    """Make the model's attention go through `attention.quantized_attention`."""
    set_attention(model, NAME)


def _inputs(model: Any) -> dict[str, Tensor]:
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    padding = getattr(model.config, "pad_token_id", None)
    token = next(index for index in range(vocabulary) if index != padding)
    device = model.get_input_embeddings().weight.device
    ids = torch.full((1, _TOKENS), token, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
