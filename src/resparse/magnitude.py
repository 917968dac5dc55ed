"""Magnitude pruning: which entries of tensors are the smallest, exactly counted and the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def smallest_entries(magnitudes: Sequence[NDArray[Any]], count: int) -> list[NDArray[np.bool_]]:
    """Select the `count` smallest entries of all arrays together.

    Several arrays share one threshold (global pruning); to prune each to its own share, call this for each alone.

    Args:
        magnitudes: non-negative, of any shapes and any real dtype, without NaN.
        count: number of entries to select, from 0 to the entries of all arrays.

    Returns:
        For each array a mask of its shape, True at the selected entries. Of equal magnitudes, those of the earlier
        array and earlier in row-major order are selected first, so that the result does not depend on the machine.

    Raises:
        ValueError: `count` is negative or more than there are entries.
    """
    flat = [magnitude.ravel() for magnitude in magnitudes]
    total = sum(part.size for part in flat)
    if not 0 <= count <= total:
        raise ValueError(f"count must lie in [0, {total}], got {count}")
    if count == 0:
        return [np.zeros(magnitude.shape, dtype=np.bool_) for magnitude in magnitudes]
    together = flat[0] if len(flat) == 1 else np.concatenate(flat)
    threshold = np.partition(together, count - 1)[count - 1]
    selected = together < threshold
    ties = np.flatnonzero(together == threshold)
    selected[ties[: count - np.count_nonzero(selected)]] = True
    parts = np.split(selected, np.cumsum([part.size for part in flat])[:-1])
    return [part.reshape(magnitude.shape) for part, magnitude in zip(parts, magnitudes, strict=True)]
