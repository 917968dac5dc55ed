"""Parts of a tokenized corpus, in tokens or in documents: which are held out, and where something in them stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranges = Sequence[tuple[int, int]]
"""Parts of a token file: from, to (exclusive)."""

# Tokens in one part that is held out, at least, and the most parts.
STRIPE, _MOST_STRIPES = 2048, 32


def held_out(count: int, share: float, most: int, stripe: int = STRIPE) -> tuple[Ranges, Ranges]:
    """Parts of a corpus to train on, and parts of all of it, evenly spread, to validate on.

    Args:
        count: of its tokens, or of its documents.
        share: of these to hold out, from 0 to 1, but no more than `most`.
        stripe: the fewest in one part that is held out.
    """
    wanted = min(int(count * share), most)
    stripes = min(max(wanted // stripe, 1), _MOST_STRIPES)
    length, held = count // stripes, wanted // stripes
    edges = [index * length for index in range(stripes)]
    ends = [*edges[1:], count]
    return [(edge + held, end) for edge, end in zip(edges, ends, strict=True)], [
        (edge, edge + held) for edge in edges
    ]


class Pieces:
    """Pieces of equal size that are cut from parts of a corpus, numbered through all parts.

    Args:
        ranges: the parts.
        size: of a piece.
        spare: pieces fewer in each part than fit into it.
    """

    def __init__(self, ranges: Ranges, size: int = 1, spare: int = 0) -> None:
        counts = [max((end - start) // size - spare, 0) for start, end in ranges]
        self._size = size
        self._starts = np.asarray([start for start, _ in ranges])
        self._bounds = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        """Pieces of all parts."""
        return int(self._bounds[-1])

    def begin(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the pieces of these numbers begin in the corpus."""
        part = np.searchsorted(self._bounds, index, side="right") - 1
        return np.asarray(self._starts[part] + (index - self._bounds[part]) * self._size, dtype=np.int64)
