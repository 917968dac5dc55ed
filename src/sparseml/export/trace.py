"""A trained model as an ONNX graph, with QuantizeLinear and DequantizeLinear where it is quantized.

Attention is traced as two matrix products and a softmax, with one additive mask for all layers: a pattern that runtimes
fuse. Transformers' default is not fused: it gathers a mask of [batch, 1, tokens, tokens] from indices, and checks for
rows of NaN.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from resparse.errors import UserError
from sparseml.export.graph import restore_initializers
from sparseml.quantization import modules
from sparseml.quantization.fake_quantize import exporting

if TYPE_CHECKING:
    import onnx_ir as ir


OPSET = 18
"""The lowest operator set that PyTorch's exporter writes; passes may lower it further."""

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_SAMPLE_BATCH, _SAMPLE_TOKENS = 2, 7


class ExportError(UserError):
    """A model that cannot be exported, or whose export differs from it."""


def input_names(model: Any, offered: Sequence[str]) -> list[str]:
    """The graph's inputs, in DeepSparse's order: those that the tokenizer returns (`offered`) and the model uses."""
    taken = inspect.signature(model.forward).parameters
    kinds = getattr(model.config, "type_vocab_size", 0)
    return [
        name
        for name in _INPUTS
        if name in taken and name in offered and (name != "token_type_ids" or kinds > 0)
    ]


@torch.no_grad()
def to_onnx(
    model: Any, inputs: Sequence[str], opset: int = OPSET, outputs: Sequence[str] = ("logits",)
) -> ir.Model:
    """Trace a model in evaluation mode; `inputs` are int64 of dynamic shape [batch, sequence].

    The model is on the CPU, and left unchanged, except that its parameters require no gradients. `opset` is at least
    OPSET, `outputs` are in the order in which the model returns them.

    Raises:
        ExportError: PyTorch cannot trace it; with its reason.
    """
    model.eval().requires_grad_(False)
    before = modules.attention_implementation(model)
    modules.set_attention(model, ATTENTION)
    sample = {name: _sample(model, name) for name in inputs}
    try:
        with exporting(), _quiet():
            program = torch.onnx.export(
                model,
                kwargs=sample,
                dynamo=True,
                dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in inputs},
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=max(opset, OPSET),
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ExportError(
            f"PyTorch {torch.__version__} cannot export this {type(model).__name__} to ONNX: "
            f"{lines[-1].strip() if lines else type(error).__name__}"
        ) from error
    finally:
        modules.set_attention(model, before)
    assert program is not None
    graph: ir.Model = program.model
    restore_initializers(graph)
    return graph


def _sample(model: Any, name: str) -> Tensor:
    """Example input of two rows, the second padded."""
    shape = (_SAMPLE_BATCH, _SAMPLE_TOKENS)
    if name == "token_type_ids":
        return torch.zeros(shape, dtype=torch.int64)
    padded = torch.ones(shape, dtype=torch.int64)
    padded[1, -2:] = 0
    if name == "attention_mask":
        return padded
    padding = model.config.pad_token_id or 0
    vocabulary = model.get_input_embeddings().weight.shape[0]
    token = next(index for index in range(vocabulary) if index != padding)
    return torch.where(padded.bool(), token, padding)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's output, warnings and logs; errors are raised as exceptions anyway."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


# The name under which the attention function is registered.
ATTENTION = "resparse_export"
# Added to the scores of masked tokens: their probability is exactly 0, in float16 and bfloat16 too.
MASKED = -65504.0


def exported_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Softmax attention, with fake quantization where the module has it; Transformers' signature, without dropout."""
    quantizers = getattr(module, modules.ATTRIBUTE, None)
    if quantizers is not None:
        query, key, value = quantizers.query(query), quantizers.key(key), quantizers.value(value)
    probabilities = modules.attention_probabilities(query, key, attention_mask, scaling)
    if quantizers is not None:
        probabilities = quantizers.probabilities(probabilities)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), None


def exported_mask(
    *args: Any, mask_function: Any, attention_mask: Tensor | None = None, **kwargs: Any
) -> Tensor | None:
    """Additive mask, 0 or MASKED: [batch, 1, 1, tokens] for full attention, [batch, 1, tokens, tokens] for local."""
    if mask_function is bidirectional_mask_function and attention_mask is not None:
        seen = attention_mask[:, None, None, :]
    else:
        kwargs |= {"allow_is_bidirectional_skip": False, "allow_is_causal_skip": False}
        seen = sdpa_mask(*args, mask_function=mask_function, attention_mask=attention_mask, **kwargs)
    return (1.0 - seen.float()) * MASKED


AttentionInterface.register(ATTENTION, exported_attention)
AttentionMaskInterface.register(ATTENTION, exported_mask)
