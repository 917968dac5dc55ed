"""Hold rows out, or choose some of them, with the classes in the same proportions and a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def share_to_hold_out(rows: int) -> float:
    """The share of training rows to evaluate on, where nobody says: a tenth, so that most rows teach.

    Of fewer than 1,000 rows up to a fifth, since a score of 50 rows says little; of very many no more than 5,000,
    since their scores are exact by then.
    """
    return min(max(0.1, min(0.2, 100 / max(rows, 1))), 5000 / max(rows, 1))


def hold_out(
    groups: Sequence[int] | None, rows: int, ratio: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into a part to train on and a part to evaluate on.

    Args:
        groups: (rows,) class of each row, for the same proportions in both parts; None splits at random.
        rows: how many there are, at least 2.
        ratio: the share to hold out, between 0 and 1.
        seed: the same seed gives the same parts.

    Returns:
        Indices to train on and indices held out, each in ascending order; every class keeps a row to train
        on, and both parts have one row at least.
    """
    count = min(max(round(rows * ratio), 1), rows - 1)
    held = choose(groups, rows, count, seed, leave_one=True)
    mask = np.zeros(rows, dtype=bool)
    mask[held] = True
    return np.flatnonzero(~mask), held


def choose(
    groups: Sequence[int] | None, rows: int, count: int, seed: int, leave_one: bool = False
) -> np.ndarray:
    """Choose `count` of `rows` at random, each class in its proportion to within one row.

    Args:
        groups: (rows,) class of each row; None chooses without regard to classes.
        rows: how many there are.
        count: how many to choose; all where that is more.
        seed: the same seed gives the same choice.
        leave_one: leave a row of each class behind (fewer than `count` may then be chosen).

    Returns:
        (chosen,) indices in ascending order.
    """
    generator = np.random.default_rng(seed)
    if groups is None:
        return np.sort(generator.permutation(rows)[: min(count, rows)])
    classes, inverse, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    shares = _shares(sizes, count, sizes - 1 if leave_one else sizes)
    chosen = [
        generator.permutation(np.flatnonzero(inverse == position))[:share]
        for position, share in zip(range(len(classes)), shares, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _shares(sizes: np.ndarray, count: int, limits: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to `sizes` that add up to `count`, none above its limit.

    Method: largest remainders (Hare-Niemeyer).
    """
    exact = sizes * min(count / sizes.sum(), 1.0)
    shares = np.minimum(np.floor(exact).astype(np.int64), limits)
    wanted = min(count, int(limits.sum()))
    while (missing := wanted - int(shares.sum())) > 0:
        remainders = np.where(shares < limits, exact - shares, -np.inf)
        # A stable sort: among equal remainders the first class gets the row, on every machine.
        winners = np.argsort(-remainders, kind="stable")[:missing]
        shares[winners[shares[winners] < limits[winners]]] += 1
    return shares
