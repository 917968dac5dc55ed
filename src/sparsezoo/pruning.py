"""Magnitude pruning of a checkpoint's encoder, without a deep-learning framework."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The encoder's Linear weights. LayerNorms hold vectors; embeddings and pooler stand outside the encoder.
_ENCODER_WEIGHT = re.compile(r"(?:.*\.)?encoder\.layer\.\d+\..*\.weight")


def prune_by_magnitude(weight: NDArray[Any], sparsity: float) -> NDArray[Any]:
    """Set the smallest entries of `weight` to zero.

    Args:
        weight: any shape, any real dtype.
        sparsity: share of zeros to make, in [0, 1].

    Returns:
        A copy in which the `round(sparsity * weight.size)` entries of least magnitude are zero. Of equal
        magnitudes, the earlier in memory order goes first, so that the result is the same on every machine.
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"sparsity must lie in [0, 1], got {sparsity}")
    count = round(sparsity * weight.size)
    pruned = weight.copy()
    if count == 0:
        return pruned
    magnitude = np.abs(weight).ravel()
    threshold = np.partition(magnitude, count - 1)[count - 1]
    drop = magnitude < threshold
    ties = np.flatnonzero(magnitude == threshold)
    drop[ties[: count - int(drop.sum())]] = True
    pruned[drop.reshape(weight.shape)] = 0
    return pruned


def prune_encoder(tensors: Mapping[str, NDArray[Any]], sparsity: float) -> dict[str, NDArray[Any]]:
    """Prune the encoder's matrices together, so that they have `sparsity` over all of them.

    One threshold for all leaves more weights where they are large (queries and keys, say) and fewer where they
    are small; fine-tuned, it keeps more accuracy than the same share of every matrix.

    Returns:
        All tensors by name, in their order; those that are not pruned are the same objects.
    """
    matrices = [
        name for name, tensor in tensors.items() if tensor.ndim == 2 and _ENCODER_WEIGHT.fullmatch(name)
    ]
    if not matrices:
        return dict(tensors)
    together = np.concatenate([tensors[name].ravel() for name in matrices])
    ends = np.cumsum([tensors[name].size for name in matrices])
    parts = np.split(prune_by_magnitude(together, sparsity), ends[:-1])
    pruned = {name: part.reshape(tensors[name].shape) for name, part in zip(matrices, parts, strict=True)}
    return {name: pruned.get(name, tensor) for name, tensor in tensors.items()}
