"""How long products take on this processor, by which packing chooses formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepsparse.errors import ModelError
from deepsparse.native import library
from resparse.arrays import Array


@dataclass(frozen=True)
class PackedMatrix:
    """A packed integer matrix, and the activation function that follows its product (a number of `Activation`)."""

    format: library.WeightFormat
    data: Array
    rows: int
    columns: int
    activation: int = 0


def seconds(
    isa: library.InstructionSet,
    matrices: Sequence[PackedMatrix],
    tokens: int,
    *,
    threads: int = 1,
    runs: int = 1,
    sums_only: bool = False,
) -> float:
    """Time of the products of `tokens` rows with matrices, one after the other, as a model runs them.

    Args:
        threads: that compute, at most.
        runs: whose mean is returned; one more before them is not counted.
        sums_only: leave out what follows the sums: scales, activation, rounding.

    Returns:
        Seconds for all matrices together; on one thread those for which it ran, on more those that passed.
    """
    records = (library.TimedMatrix * len(matrices))(
        *(
            library.TimedMatrix(
                library.address(one.data, np.uint8),
                one.data.size,
                one.rows,
                one.columns,
                one.format,
                one.activation,
            )
            for one in matrices
        )
    )
    taken: float = library.load().resparse_time(
        isa.isa, records, len(records), tokens, threads, runs, sums_only
    )
    if taken < 0:
        raise ModelError(f"The native engine cannot time these products: {library.error()}")
    return taken
