"""Training and exporting Transformers models, under the names that SparseML had.

The names below are loaded when they are asked for, so that the commands' help comes at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparseml.transformers.sparse_auto import SparseAutoConfig, SparseAutoModel, SparseAutoTokenizer
    from sparseml.transformers.sparsification import Trainer, TrainingArguments

__all__ = ["SparseAutoConfig", "SparseAutoModel", "SparseAutoTokenizer", "Trainer", "TrainingArguments"]

_PLACES = {
    "SparseAutoConfig": "sparse_auto",
    "SparseAutoModel": "sparse_auto",
    "SparseAutoTokenizer": "sparse_auto",
    "Trainer": "sparsification",
    "TrainingArguments": "sparsification",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
