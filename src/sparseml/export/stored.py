"""Checks of the exported file: its weights compared with the model's integer by integer, and its size."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resparse.arrays import Array
from sparseml.export.trace import ExportError
from sparseml.quantization.fake_quantize import FakeQuantize


def check_weights(model: nn.Module, file: Path) -> dict[str, Any]:
    """Compare the weights of every Linear and Embedding with the file's initializers; an ExportError where they differ.

    Returns counts for the report: layers by type, and pruned weights, all of which are the zero point in the file. A
    float layer whose input does not depend on the text has been constant-folded; it counts all the same.
    """
    stored = _users_by_matrix(file)
    counts = {"int8_linears": 0, "float_linears": 0, "int8_embeddings": 0, "float_embeddings": 0}
    pruned = 0
    for path, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        weight, quantizer = module.weight.detach(), getattr(module, "weight_quantizer", None)
        if quantizer is not None and not quantizer.enabled:
            quantizer = None
        in_float = _users(stored, weight.float().numpy())
        quantized = quantizer is not None and any(
            _users(stored, array) for array in _integers(weight, quantizer)
        )
        # A table that is used without a Gather (DeBERTa's relative positions) is never quantized.
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
    """Bytes in dense float32, as stored, and compressed by zlib; and the last as a share of the first."""
    dense = 4 * sum(parameter.numel() for parameter in model.parameters())
    compressed = sum(_compressed(file) for file in files)
    return {
        "dense_bytes": dense,
        "stored_bytes": sum(file.stat().st_size for file in files),
        "compressed_bytes": compressed,
        "compressed_share": round(compressed / dense, 6),
    }


def _integers(weight: Tensor, quantizer: FakeQuantize) -> Iterator[Array]:
    """A quantized weight as int8, and as uint8 with zero point 128; asserts that pruned weights are the zero point."""
    scheme, zero_point = quantizer.scheme, quantizer.zero_point
    grid = torch.round(weight.float() / quantizer.scale) + zero_point
    integers = grid.clamp(scheme.low, scheme.high).to(torch.int16).numpy()
    assert bool((zero_point == 0).all()), "weights are quantized around zero"
    assert not integers[weight.numpy() == 0].any()
    yield integers.astype(np.int8)
    yield (integers + 128).astype(np.uint8)


def _users_by_matrix(file: Path) -> dict[tuple[Any, ...], set[str]]:
    """The operators that use each matrix of the file, by the matrix's digest."""
    import onnx_ir as ir

    return {
        _digest(value.const_value.numpy()): {use.node.op_type for use in value.uses()}
        for value in ir.load(file).graph.initializers.values()
        if value.const_value is not None and len(value.const_value.shape) > 1
    }


def _users(stored: dict[tuple[Any, ...], set[str]], array: Array) -> set[str]:
    """The operators that use a matrix, or its transpose."""
    return stored.get(_digest(array), set()) | stored.get(_digest(array.T), set())


def _digest(array: Array) -> tuple[Any, ...]:
    """Type, shape and hash of an array."""
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
    return array.dtype.str, array.shape, digest


def _compressed(file: Path) -> int:
    packer = zlib.compressobj(level=6)
    size = 0
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())
