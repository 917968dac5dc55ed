"""Magnitude pruning of a checkpoint's encoder, without a deep-learning framework."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resparse.magnitude import smallest_entries

# The encoder's Linear weights. LayerNorms hold vectors; embeddings and pooler stand outside the encoder.
_ENCODER_WEIGHT = re.compile(r"(?:.*\.)?encoder\.layer\.\d+\..*\.weight")


def prune_by_magnitude(weights: Sequence[NDArray[Any]], sparsity: float) -> list[NDArray[Any]]:
    """Set the smallest entries of all `weights` together to zero.

    Args:
        weights: of any shapes and any real dtype.
        sparsity: share of zeros to make over all of them, in [0, 1].

    Returns:
        Copies in which the `round(sparsity * entries)` entries of least magnitude are zero.

    Raises:
        ValueError: `sparsity` lies outside [0, 1].
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"sparsity must lie in [0, 1], got {sparsity}")
    count = round(sparsity * sum(weight.size for weight in weights))
    pruned = [weight.copy() for weight in weights]
    for weight, zero in zip(
        pruned, smallest_entries([np.abs(weight) for weight in weights], count), strict=True
    ):
        weight[zero] = 0
    return pruned


def prune_encoder(tensors: Mapping[str, NDArray[Any]], sparsity: float) -> dict[str, NDArray[Any]]:
    """Prune the encoder's matrices together, so that they have `sparsity` over all of them.

    One threshold for all leaves more weights where they are large (queries and keys, say) and fewer where they
    are small; fine-tuned, it keeps more accuracy than the same share of every matrix.

    Returns:
        All tensors by name, in their order; those that are not pruned are the same objects.
    """
    names = [name for name, tensor in tensors.items() if tensor.ndim == 2 and _ENCODER_WEIGHT.fullmatch(name)]
    pruned = prune_by_magnitude([tensors[name] for name in names], sparsity)
    return {**tensors, **dict(zip(names, pruned, strict=True))}
