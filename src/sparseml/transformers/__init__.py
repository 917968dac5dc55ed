"""SparseML's names for training and exporting Transformers models; imported lazily, so that help is fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparseml.processes import quiet_pytorch

if TYPE_CHECKING:
    from sparseml.transformers.sparse_auto import SparseAutoConfig, SparseAutoModel, SparseAutoTokenizer
    from sparseml.transformers.sparsification import Trainer, TrainingArguments

quiet_pytorch()

__all__ = ["SparseAutoConfig", "SparseAutoModel", "SparseAutoTokenizer", "Trainer", "TrainingArguments"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "sparse_auto" if name.startswith("SparseAuto") else "sparsification"
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
