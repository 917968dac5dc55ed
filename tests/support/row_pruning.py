"""Optimal brain compression of rows, exact and slow: the reference for layer-wise pruning."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def prune_rows(weight: Tensor, hessian: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Prune each row greedily, weight by weight, each time the one that costs least (arXiv:2208.11580, algorithm 1).

    Exact at every step: after a removal all kept weights are the least-squares solution, and the next cost
    w_p² / [H⁻¹]_pp is that of the row as it stands. rows x columns² values are held.

    Args:
        weight: [rows, columns].
        hessian: X Xᵀ, positive definite: see `dampened`.
        count: weights to remove from each row.

    Returns:
        The pruned weights and the mask, [rows, columns]; and the rise of ‖ΔW X‖² by each removal, [rows, count].
    """
    rows = len(weight)
    work = weight.double().clone()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian.double())).repeat(rows, 1, 1)
    pruned = torch.zeros_like(weight, dtype=torch.bool)
    costs = work.new_zeros(rows, count)
    each = torch.arange(rows, device=weight.device)
    for step in range(count):
        diagonal = inverse.diagonal(dim1=1, dim2=2)
        cost = (work.square() / diagonal).masked_fill_(pruned, math.inf)
        costs[:, step], chosen = cost.min(1)
        column = inverse[each, :, chosen]
        pivot = column.gather(1, chosen.unsqueeze(1))
        work -= column * (work.gather(1, chosen.unsqueeze(1)) / pivot)
        pruned[each, chosen] = True
        work.masked_fill_(pruned, 0.0)
        inverse.baddbmm_((column / pivot).unsqueeze(2), column.unsqueeze(1), alpha=-1)
        # The removed weight's row and column are zero now but for rounding; its diagonal must not be.
        inverse[each, chosen, chosen] = 1.0
    return work, pruned, costs
