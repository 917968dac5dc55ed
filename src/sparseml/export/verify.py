"""Is the file the model? Answers compared row by row, weights compared integer by integer."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from resparse.progress import track
from sparseml.export.onnx import ExportError
from sparseml.quantization.fake_quantize import FakeQuantize

AGREEMENT: Final = 0.999
"""Least share of rows whose label must be the same."""

TIE: Final = 0.05
"""Two logits closer than this are a tie. Runtimes add in another order than PyTorch, which now and then tips a value to
the next step of its 8-bit grid, and the logits with it; the largest difference is reported beside the labels."""

_BATCH = 16

Array = np.ndarray[Any, Any]
Row = tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """How PyTorch and the file answered the same rows.

    Attributes:
        expected, got: logits [rows, labels] of PyTorch and of the file in ONNX Runtime.
        rows: the texts, one or two each.
        kind: the problem type of the model.
    """

    expected: Array
    got: Array
    rows: Sequence[Row]
    kind: str

    @property
    def flips(self) -> Array:
        """For every row how far PyTorch's answer is from the label that the file gives; 0 where they agree."""
        if self.kind == "regression" or self.expected.shape[1] == 1:
            spread = max(float(self.expected.std()), 1.0)
            far = np.abs(self.expected - self.got)[:, 0] / spread
            return np.where(far > 5 * TIE, far, 0.0)
        if self.kind == "multi_label_classification":
            differ = (self.expected > 0) != (self.got > 0)
            return np.where(differ, np.abs(self.expected), 0.0).max(axis=1)
        chosen = np.take_along_axis(self.expected, self.got.argmax(axis=1)[:, None], axis=1)[:, 0]
        flips: Array = self.expected.max(axis=1) - chosen
        return flips

    @property
    def worst(self) -> int:
        """The row whose label differs the most clearly, or else whose logits do."""
        return int((np.abs(self.expected - self.got).max(axis=1) + 1e6 * self.flips).argmax())

    def facts(self) -> dict[str, Any]:
        """For the report; the keys say what they are."""
        difference = np.abs(self.expected - self.got)
        return {
            "rows": len(self.rows),
            "label_agreement": round(float((self.flips == 0).mean()), 6),
            "near_ties": int(((self.flips > 0) & (self.flips <= TIE)).sum()),
            "largest_logit_difference": round(float(difference.max()), 6),
            "median_logit_difference": round(float(np.median(difference)), 6),
            "worst_row": {
                "text": [text[:200] for text in self.rows[self.worst]],
                "pytorch": _rounded(self.expected[self.worst]),
                "onnx": _rounded(self.got[self.worst]),
            },
        }

    def refuse_mismatch(self) -> None:
        """Check that the labels are the same, near ties aside.

        Raises:
            ExportError: they are not; shows the worst row.
        """
        if not np.isfinite(self.got).all():
            raise ExportError(
                "The exported model answers with numbers that are not finite; PyTorch does not."
            )
        clear = int((self.flips > TIE).sum())
        if clear > (1 - AGREEMENT) * len(self.rows):
            texts = " | ".join(repr(text[:200]) for text in self.rows[self.worst])
            raise ExportError(
                f"The exported model is not the trained one: {clear} of {len(self.rows)} rows get another label in "
                f"ONNX Runtime than in PyTorch. The worst: {texts}\n"
                f"  PyTorch's logits:      {_rounded(self.expected[self.worst])}\n"
                f"  ONNX Runtime's logits: {_rounded(self.got[self.worst])}\n"
                "Nothing was deployed. This is a fault of the export, not of the model: please report it."
            )


def ask(
    model: Any, file: Path, tokenizer: Any, inputs: Sequence[str], rows: Sequence[Row], limit: int
) -> Answers:
    """Let PyTorch and ONNX Runtime answer the same rows, in batches padded to their longest.

    Args:
        model: the classifier in evaluation mode, fake-quantized where it is quantized.
        file: the exported model.
        inputs: names of the graph's inputs.
        rows: one or two texts each.
        limit: tokens to cut texts at.

    Raises:
        ExportError: ONNX Runtime cannot run the file.
    """
    session = open_session(file)
    order = sorted(range(len(rows)), key=lambda index: sum(map(len, rows[index])))
    expected: dict[int, Array] = {}
    got: dict[int, Array] = {}
    for start in track(range(0, len(order), _BATCH), "comparing with PyTorch"):
        chosen = order[start : start + _BATCH]
        encoded = tokenizer(
            *map(list, zip(*(rows[index] for index in chosen), strict=True)),
            truncation=True,
            max_length=limit,
            padding=True,
            return_tensors="pt",
        )
        batch: dict[str, Tensor] = {name: encoded[name] for name in inputs}
        with torch.no_grad():
            logits = model(**batch).logits.float().numpy()
        (answers,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in batch.items()})
        expected |= dict(zip(chosen, logits, strict=True))
        got |= dict(zip(chosen, answers, strict=True))
    stacked = [np.stack([answers[index] for index in range(len(rows))]) for answers in (expected, got)]
    return Answers(stacked[0], stacked[1], rows, model.config.problem_type or "single_label_classification")


def open_session(file: Path) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        ExportError: it does not load the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        reason = str(error).splitlines()[0]
        raise ExportError(f"ONNX Runtime does not load the exported model: {reason}") from error


def weigh(model: nn.Module, file: Path) -> dict[str, Any]:
    """Compare the weights of every Linear and Embedding with what the file holds.

    Returns:
        Counts for the report: layers by type, and pruned weights, all of which are the zero point in the file.
        A layer in float whose input does not depend on the text has been computed away; it counts all the same.

    Raises:
        ExportError: a quantized weight is missing, is not what training left, or is kept in float as well.
    """
    stored = _stored(file)
    counts = {"int8_linears": 0, "float_linears": 0, "int8_embeddings": 0, "float_embeddings": 0}
    pruned = 0
    for path, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        weight, quantizer = module.weight.detach(), _quantizer(module)
        in_float = _users(stored, weight.float().numpy())
        quantized = quantizer is not None and any(
            _users(stored, array) for array in _integers(weight, quantizer)
        )
        # A table that is not looked up in, but used whole (DeBERTa's relative positions), is never quantized.
        must = quantizer is not None and (isinstance(module, nn.Linear) or "Gather" in in_float)
        if must and not quantized:
            raise ExportError(
                f"The exported model does not hold the integers of {path} as training left them. Nothing was deployed. "
                "This is a fault of the export: please report it."
            )
        if quantized and in_float:
            raise ExportError(
                f"The exported model keeps {path} in float beside its integers: please report it."
            )
        kind = "linears" if isinstance(module, nn.Linear) else "embeddings"
        counts[f"{'int8' if quantized else 'float'}_{kind}"] += 1
        if kind == "linears" and (quantized or in_float):
            pruned += weight.numel() - int(weight.count_nonzero())
    return {**counts, "pruned_weights_at_zero_point": pruned}


def sizes(model: nn.Module, files: Sequence[Path]) -> dict[str, Any]:
    """Bytes: the model in dense float32, as stored, and compressed by zlib; and the last as a share of the first."""
    dense = 4 * sum(parameter.numel() for parameter in model.parameters())
    compressed = sum(_compressed(file) for file in files)
    return {
        "dense_bytes": dense,
        "stored_bytes": sum(file.stat().st_size for file in files),
        "compressed_bytes": compressed,
        "compressed_share": round(compressed / dense, 6),
    }


def _quantizer(module: nn.Module) -> FakeQuantize | None:
    quantizer = getattr(module, "weight_quantizer", None)
    return quantizer if quantizer is not None and quantizer.enabled else None


def _integers(weight: Tensor, quantizer: FakeQuantize) -> Iterator[Array]:
    """What a quantized weight is as int8, and as uint8 around 128; checked that pruned weights are the zero point."""
    scheme, zero_point = quantizer.scheme, quantizer.zero_point
    grid = torch.round(weight.float() / quantizer.scale) + zero_point
    integers = grid.clamp(scheme.low, scheme.high).to(torch.int16).numpy()
    assert bool((zero_point == 0).all()), "weights are quantized around zero"
    assert not integers[weight.numpy() == 0].any()
    yield integers.astype(np.int8)
    yield (integers + 128).astype(np.uint8)


def _stored(file: Path) -> dict[tuple[Any, ...], set[str]]:
    """Operators that use each matrix of the file."""
    import onnx_ir as ir

    matrices = [
        value
        for value in ir.load(file).graph.initializers.values()
        if value.const_value is not None and len(value.const_value.shape) > 1
    ]
    return {
        _key(value.const_value.numpy()): {use.node.op_type for use in value.uses()}
        for value in matrices
        if value.const_value is not None
    }


def _users(stored: dict[tuple[Any, ...], set[str]], array: Array) -> set[str]:
    """Operators that use a matrix, or the matrix transposed."""
    return stored.get(_key(array), set()) | stored.get(_key(array.T), set())


def _key(array: Array) -> tuple[Any, ...]:
    """What two equal arrays have in common."""
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
    return array.dtype.str, array.shape, digest


def _compressed(file: Path) -> int:
    packer = zlib.compressobj(level=6)
    size = 0
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def _rounded(values: Array) -> list[float]:
    return [round(float(value), 4) for value in values]
