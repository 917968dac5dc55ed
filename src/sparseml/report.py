"""The report of a run: sparsity and bits by layer, sizes and metrics, as JSON (report.json) and as a table."""

from __future__ import annotations

import platform
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sparseml.metrics import main_metrics
from sparseml.quantization.fake_quantize import FakeQuantize
from sparseml.quantization.modules import QuantizedEmbedding, QuantizedLinear
from sparseml.quantization.structure import quantizers_of

if TYPE_CHECKING:
    from rich.table import Table

_PACKAGES = ("resparse", "torch", "transformers", "datasets", "accelerate", "numpy")


def prunable_sparsity(model: nn.Module) -> float:
    """Share of exact zeros among the weights of all Linear layers."""
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    total = sum(weight.numel() for weight in weights)
    return sum(weight.numel() - int(weight.count_nonzero()) for weight in weights) / total if total else 0.0


def layers(model: nn.Module) -> list[dict[str, Any]]:
    """One entry for each Linear and Embedding: name, kind, shape, sparsity, bits of weights and of inputs."""
    entries: list[dict[str, Any]] = []
    for path, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        weight = module.weight
        zeros = weight.numel() - int(weight.count_nonzero())
        entries.append(
            {
                "name": path,
                "kind": "Linear" if isinstance(module, nn.Linear) else "Embedding",
                "shape": list(weight.shape),
                "sparsity": round(zeros / max(weight.numel(), 1), 6),
                "weight_bits": _bits(getattr(module, "weight_quantizer", None)),
                "input_bits": _bits(getattr(module, "input_quantizer", None)),
            }
        )
    return entries


def totals(model: nn.Module) -> dict[str, Any]:
    """Counts over the model, and its bytes in dense float32, and as deployed (int8 or float32), compressed by zlib."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    prunable = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    quantizable = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Embedding))]
    quantized = [module for module in quantizable if _bits(getattr(module, "weight_quantizer", None)) < 32]
    sizes = [sum(module.weight.numel() for module in modules) for modules in (quantized, quantizable)]
    attention = sum(path.endswith(".probabilities") and q.enabled for path, q in quantizers_of(model))
    stored, compressed = _sizes(model)
    return {
        "parameters": parameters,
        "prunable_parameters": prunable,
        "prunable_sparsity": round(prunable_sparsity(model), 6),
        "quantizable_layers": len(quantizable),
        "quantized_layers": len(quantized),
        "quantized_attention_layers": attention,
        "quantized_share": round(sizes[0] / max(sizes[1], 1), 6),
        "dense_bytes": 4 * parameters,
        "integer_bytes": stored,
        "compressed_bytes": compressed,
    }


def build(
    model: nn.Module, metrics: Mapping[str, Any], command: Sequence[str], recipe: str | None, **facts: Any
) -> dict[str, Any]:
    """The whole report, ready for JSON."""
    return {
        "version": 1,
        "model": {
            "class": type(model).__name__,
            "architecture": str(getattr(model.config, "model_type", "")),
            "loads_alone": _is_of_transformers(model),
        },
        "totals": totals(model),
        "metrics": dict(metrics),
        **facts,
        "recipe": recipe,
        "command": list(command),
        "versions": versions(),
        "layers": layers(model),
    }


def _is_of_transformers(model: Any) -> bool:
    """Whether Transformers alone computes the same: its encoder is no class of ours (`session.pooling`)."""
    encoder = getattr(model, getattr(model, "base_model_prefix", ""), model)
    return not type(encoder).__module__.startswith(__package__ or "sparseml")


def versions() -> dict[str, str]:
    """Versions of Python, the platform, and the packages that a result depends on."""
    packages = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


def table(report: Mapping[str, Any]) -> Table:
    """The report's main numbers as a table."""
    from resparse.console import aligned

    sums = report["totals"]
    attentions = sums["quantized_attention_layers"]
    quantized = f"{sums['quantized_layers']} of {sums['quantizable_layers']} layers"
    rows = [
        (name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
        for name, value in main_metrics(report["metrics"]).items()
    ]
    rows += [
        ("sparsity of Linear weights", f"{sums['prunable_sparsity']:.1%}"),
        ("quantized to 8 bits", quantized + (f", {attentions} attentions" if attentions else "")),
        ("size, dense float32", f"{sums['dense_bytes'] / 1e6:.1f} MB"),
        ("size, compressed", f"{sums['compressed_bytes'] / 1e6:.1f} MB"),
    ]
    return aligned(rows, ("result", ""))


def _bits(quantizer: FakeQuantize | None) -> int:
    return quantizer.scheme.num_bits if quantizer is not None and quantizer.enabled else 32


def _sizes(model: nn.Module) -> tuple[int, int]:
    quantizer_of = {
        id(module.weight): module.weight_quantizer
        for module in model.modules()
        if isinstance(module, (QuantizedLinear, QuantizedEmbedding)) and module.weight_quantizer is not None
    }
    stored = compressed = 0
    for parameter in model.parameters():
        raw = _as_deployed(parameter.detach(), quantizer_of.get(id(parameter)))
        stored += raw.nbytes
        compressed += len(zlib.compress(raw.tobytes(), level=6))
    return stored, compressed


def _as_deployed(parameter: Tensor, quantizer: FakeQuantize | None) -> np.ndarray[Any, Any]:
    if quantizer is None or not quantizer.enabled:
        return parameter.float().cpu().numpy()
    scheme = quantizer.scheme
    integers = torch.round(parameter / quantizer.scale).clamp(scheme.low, scheme.high)
    return integers.to(torch.int8).cpu().numpy()
