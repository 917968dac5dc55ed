"""Exports with more zeros, or none: the int8 weights of linear layers are changed in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

_SMALLEST = 10_000  # elements of a matrix that is changed: the classifier is not


def pruned(source: Path, target: Path, zeros: float) -> None:
    """Copy an export with the smallest weights of every Linear set to the zero point, a share of them."""
    chance = np.random.default_rng(0)

    def prune(weights: np.ndarray) -> np.ndarray:
        # Equal magnitudes are many in 8 bits: chance decides between them.
        order = np.abs(weights) + chance.random(weights.shape)
        return np.where(order < np.quantile(order, zeros), 0, weights)

    _changed(source, target, prune)


def filled(source: Path, target: Path) -> None:
    """Copy an export with every zero of a Linear replaced by chance, by one of its other weights."""
    chance = np.random.default_rng(0)

    def fill(weights: np.ndarray) -> np.ndarray:
        others = weights[weights != 0]
        return np.where(weights == 0, chance.choice(others, weights.shape), weights)

    _changed(source, target, fill)


def _changed(source: Path, target: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Copy an export; `change` takes and gives the whole numbers of a matrix, less its zero point."""
    import onnx_ir as ir

    model = ir.load(source)
    for value in model.graph.initializers.values():
        weights = None if value.const_value is None else value.const_value.numpy()
        is_linear = weights is not None and weights.ndim == 2 and "embeddings" not in str(value.name)
        if not is_linear or weights.dtype not in (np.int8, np.uint8) or weights.size < _SMALLEST:
            continue
        zero_point = 128 if weights.dtype == np.uint8 else 0
        kept = change(weights.astype(np.int16) - zero_point) + zero_point
        value.const_value = ir.tensor(kept.astype(weights.dtype), name=value.name)
    ir.save(model, target)
