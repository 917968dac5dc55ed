"""A trained classifier as an ONNX graph: QuantizeLinear and DequantizeLinear where it is quantized."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from resparse.errors import UserError
from sparseml.export.attention import NAME
from sparseml.quantization.fake_quantize import exporting
from sparseml.quantization.modules import attention_implementation, set_attention

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 18
"""The lowest operator set that PyTorch's exporter writes; passes may lower it further."""

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_SAMPLE_BATCH, _SAMPLE_TOKENS = 2, 7


class ExportError(UserError):
    """A model that cannot be exported, or whose export is not what the model is."""


def input_names(model: Any, offered: Sequence[str]) -> list[str]:
    """What the graph takes, in DeepSparse's order: what both the tokenizer offers and the model looks at.

    Args:
        model: a classifier.
        offered: the tokenizer's `model_input_names`.
    """
    import inspect

    taken = inspect.signature(model.forward).parameters
    kinds = getattr(model.config, "type_vocab_size", 0)
    return [
        name
        for name in _INPUTS
        if name in taken and name in offered and (name != "token_type_ids" or kinds > 0)
    ]


@torch.no_grad()
def to_onnx(model: Any, inputs: Sequence[str], opset: int = OPSET) -> ir.Model:
    """Trace a classifier in evaluation mode; dimensions `batch` and `sequence` are dynamic.

    Args:
        model: a Transformers classifier on the CPU; left as it was, its parameters no longer asking for gradients.
        inputs: names of its inputs, int64 [batch, sequence].
        opset: ONNX operator set; OPSET where it is below that.

    Returns:
        A graph with these inputs and the output `logits` ([batch, labels], float32).

    Raises:
        ExportError: PyTorch cannot trace it; with its reason.
    """
    model.eval().requires_grad_(False)
    before = attention_implementation(model)
    set_attention(model, NAME)
    sample = {name: _sample(model, name) for name in inputs}
    try:
        with exporting(), _quiet():
            program = torch.onnx.export(
                model,
                kwargs=sample,
                dynamo=True,
                dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in inputs},
                input_names=list(inputs),
                output_names=["logits"],
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
        set_attention(model, before)
    assert program is not None
    graph: ir.Model = program.model
    return graph


def _sample(model: Any, name: str) -> Tensor:
    """Two rows of tokens, the second padded, for the trace."""
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
    """The exporter speaks through prints, warnings and logging; what matters of it is in its exceptions."""
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
