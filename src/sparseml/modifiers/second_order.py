"""Second-order pruning: which weights to remove, and how the others make up for it. Pure functions on matrices.

Two models of the loss. The optimal BERT surgeon (Kurtic et al. 2022, arXiv:2203.07259) takes the Hessian of the
training loss to be the block-diagonal empirical Fisher matrix: `Fisher`, `obs_saliency`, `obs_update`. Optimal brain
compression (Frantar & Alistarh 2022, arXiv:2208.11580) prunes a layer so that its outputs on given inputs change
least, whose Hessian is X Xᵀ for each row of weights: `prune_rows`, exact and slow; `prune_columns`, in the fixed order
of SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774); `refit`, the best weights under a given mask.

Masks are True where a weight is pruned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 1 << 22
"""Entries of the matrices that are inverted at once, in double precision."""


class Fisher:
    """The damped empirical Fisher matrix of a tensor's weights, in blocks on its diagonal.

    F = damp·I + (1/m) Σ g gᵀ over m gradients (arXiv:2203.07259, eq. 4), restricted to blocks of consecutive weights.
    With fewer gradients than a block has weights, the gradients are kept and inverted by the Woodbury identity
    (eq. 5, all gradients at once); else their sum is accumulated and inverted by Cholesky, which is the same matrix
    without the rounding of m rank-one updates that start from I/damp.

    Args:
        weights: number of weights; the last block is filled up with weights of zero gradient.
        block_size: weights in a block.
        num_gradients: the most that will be added.
        device: where it is stored: weights x min(block_size, num_gradients) floats.
    """

    def __init__(self, weights: int, block_size: int, num_gradients: int, device: torch.device) -> None:
        self.blocks, self.block_size = math.ceil(weights / block_size), block_size
        self._few = num_gradients < block_size
        width = num_gradients if self._few else block_size
        self._sum = torch.zeros(self.blocks, block_size, width, device=device)
        self.added = 0

    def add(self, gradient: Tensor) -> None:
        """Add a gradient; flat, in the order of the weights."""
        blocks = as_blocks(gradient, self.block_size).to(self._sum)
        if self._few:
            self._sum[:, :, self.added] = blocks
        else:
            self._sum.baddbmm_(blocks.unsqueeze(2), blocks.unsqueeze(1))
        self.added += 1

    def inverse(self, damp: float) -> Tensor:
        """The inverse of each block, [blocks, block_size, block_size]."""
        invert = woodbury_inverse if self._few else damped_inverse
        step = max(1, CHUNK // self.block_size**2)
        parts = [invert(part, damp, self.added) for part in self._sum.split(step)]
        return torch.cat([part.to(self._sum) for part in parts])


def as_blocks(values: Tensor, block_size: int) -> Tensor:
    """Flat values as [blocks, block_size], the last block filled up with zeros."""
    flat = values.reshape(-1)
    blocks = math.ceil(flat.numel() / block_size)
    return torch.nn.functional.pad(flat, (0, blocks * block_size - flat.numel())).view(blocks, block_size)


def damped_inverse(products: Tensor, damp: float, count: int) -> Tensor:
    """(damp·I + products / count)⁻¹ in double precision.

    Args:
        products: Σ g gᵀ, [blocks, n, n].
        damp: positive.
        count: number of gradients in the sum.
    """
    matrix = products.double() / count
    matrix.diagonal(dim1=1, dim2=2).add_(damp)
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def woodbury_inverse(gradients: Tensor, damp: float, count: int) -> Tensor:
    """(damp·I + G Gᵀ / count)⁻¹ = (I - G (count·damp·I + GᵀG)⁻¹ Gᵀ) / damp in double precision.

    Args:
        gradients: G, [blocks, n, m], one gradient a column.
        damp: positive.
        count: number of gradients.
    """
    columns = gradients.double()
    small = columns.mT @ columns
    small.diagonal(dim1=1, dim2=2).add_(count * damp)
    inverse = columns @ torch.cholesky_solve(columns.mT, torch.linalg.cholesky(small))
    inverse = inverse.neg_()
    inverse.diagonal(dim1=1, dim2=2).add_(1.0)
    return inverse / damp


def obs_saliency(weights: Tensor, inverse: Tensor, group: int = 1) -> Tensor:
    """The rise of the loss by removing each group of weights: ½ w_Qᵀ ([F⁻¹]_QQ)⁻¹ w_Q (arXiv:2203.07259, eq. 3).

    For single weights that is w² / (2 [F⁻¹]_ii).

    Args:
        weights: [blocks, n].
        inverse: F⁻¹, [blocks, n, n].
        group: consecutive weights that are removed together; divides n.

    Returns:
        [blocks, n // group].
    """
    if group == 1:
        return weights.square() / (2.0 * inverse.diagonal(dim1=1, dim2=2))
    blocks, size = weights.shape
    count = size // group
    grouped = weights.view(blocks, count, group)
    corners = inverse.view(blocks, count, group, count, group)
    corners = torch.stack([corners[:, index, :, index] for index in range(count)], 1)
    solved = torch.linalg.solve(corners.double(), grouped.double())
    return (0.5 * (grouped * solved).sum(2)).to(weights)


def obs_update(weights: Tensor, inverse: Tensor, pruned: Tensor) -> Tensor:
    """The change of all weights that takes the pruned ones to zero at the least rise of the loss.

    Minimizes ½ δᵀ F δ under δ_P = -w_P: δ = -[F⁻¹]_:P ([F⁻¹]_PP)⁻¹ w_P (arXiv:2203.07259, eq. 3), for all pruned
    weights P of a block jointly.

    Args:
        weights: [blocks, n].
        inverse: F⁻¹, [blocks, n, n].
        pruned: boolean, [blocks, n].

    Returns:
        δ, [blocks, n].
    """
    change = torch.empty_like(weights)
    step = max(1, CHUNK // weights.shape[1] ** 2)
    for begin in range(0, len(weights), step):
        part = slice(begin, begin + step)
        full, removed, old = inverse[part].double(), pruned[part], weights[part].double()
        # Rows and columns of kept weights become those of the identity: their multipliers are zero.
        system = full.masked_fill(~(removed.unsqueeze(2) & removed.unsqueeze(1)), 0.0)
        system.diagonal(dim1=1, dim2=2).add_((~removed).double())
        multipliers = torch.linalg.solve(system, old.masked_fill(~removed, 0.0))
        change[part] = -torch.einsum("bij,bj->bi", full, multipliers).to(weights)
    return change


def output_error(change: Tensor, hessian: Tensor) -> float:
    """Squared change of a layer's outputs, ‖ΔW X‖² = tr(ΔW X Xᵀ ΔWᵀ).

    Args:
        change: ΔW, [rows, columns].
        hessian: X Xᵀ, [columns, columns].
    """
    return float(((change.double() @ hessian.double()) * change).sum())


def dampened(hessian: Tensor, damp: float) -> Tensor:
    """X Xᵀ with a share `damp` of its mean diagonal added on the diagonal, so that it can be inverted.

    Inputs that never differ from zero get a diagonal of 1.
    """
    matrix = hessian.double().clone()
    diagonal = matrix.diagonal()
    level = damp * float(diagonal.mean())
    diagonal[diagonal == 0] = 1.0
    diagonal.add_(level)
    return matrix


Choose = Callable[[Tensor, int], Tensor]
"""From the saliency of a span of columns [rows, columns] and its first column to a mask of that shape."""


def prune_columns(
    weight: Tensor, hessian: Tensor, choose: Choose, block_size: int = 128, group: int = 1
) -> tuple[Tensor, Tensor]:
    """Prune a layer column by column; those to the right make up for each (arXiv:2301.00774, algorithm 1).

    With U the upper Cholesky factor of (X Xᵀ)⁻¹, removing w_j costs (w_j / U_jj)² and changes the columns k > j
    by -w_j U_jk / U_jj.

    Args:
        weight: [rows, columns].
        hessian: X Xᵀ, positive definite: see `dampened`.
        choose: says the mask of the next columns; called once for every `block_size` of them.
        block_size: a multiple of `group`.
        group: consecutive columns whose weights are removed together. Their saliency is that of the whole group, at
            its first column, and 0 at its others.

    Returns:
        The pruned weights, in double precision, and the mask.
    """
    work = weight.double().clone()
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian.double())), upper=True)
    pruned = torch.zeros_like(weight, dtype=torch.bool)
    columns = weight.shape[1]
    for begin in range(0, columns, block_size):
        span = slice(begin, min(begin + block_size, columns))
        corner = factor[span, span]
        mask = choose(_column_saliency(work[:, span], corner, group), begin)
        pruned[:, span] = mask
        errors = torch.zeros_like(work[:, span])
        for column in range(corner.shape[0]):
            removed = work[:, begin + column] * mask[:, column]
            errors[:, column] = removed / corner[column, column]
            work[:, begin + column : span.stop] -= torch.outer(errors[:, column], corner[column, column:])
        work[:, span.stop :] -= errors @ factor[span, span.stop :]
    return work.masked_fill_(pruned, 0.0), pruned


def _column_saliency(weights: Tensor, factor: Tensor, group: int) -> Tensor:
    """(w_j / U_jj)²; for groups w_Qᵀ (U_QᵀU_Q)⁻¹ w_Q = ‖U_Q⁻ᵀ w_Q‖² at the group's first column."""
    if group == 1:
        return (weights / factor.diagonal()).square()
    saliency = torch.zeros_like(weights)
    for begin in range(0, weights.shape[1], group):
        part = slice(begin, begin + group)
        solved = torch.linalg.solve_triangular(factor[part, part].mT, weights[:, part].mT, upper=False)
        saliency[:, begin] = solved.square().sum(0)
    return saliency


def refit(weight: Tensor, hessian: Tensor, pruned: Tensor) -> Tensor:
    """The weights under a mask whose outputs are nearest to the dense layer's: for each row least squares.

    Row by row, with K the kept columns: w'_K = ([X Xᵀ]_KK)⁻¹ [X Xᵀ]_K: w (arXiv:2208.11580, section 4).

    Args:
        weight: dense, [rows, columns].
        hessian: X Xᵀ, positive definite: see `dampened`.
        pruned: [rows, columns].

    Returns:
        [rows, columns] in double precision, exactly 0 where pruned.
    """
    matrix = hessian.double()
    targets = weight.double() @ matrix
    fitted = torch.zeros_like(targets)
    kept_counts = (~pruned).sum(1)
    rows = kept_counts.argsort(stable=True)
    begin = int((kept_counts == 0).sum())
    while begin < len(rows):
        # Rows of about the same number of kept weights at once; the shorter ones filled up with pruned columns,
        # whose equations become w' = 0.
        width_at = min(begin + max(1, CHUNK // int(kept_counts[rows[begin]]) ** 2), len(rows))
        part = rows[begin:width_at]
        width = int(kept_counts[part[-1]])
        order = pruned[part].to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        filler = pruned[part].gather(1, order)
        system = matrix[order.unsqueeze(2), order.unsqueeze(1)]
        system.masked_fill_(filler.unsqueeze(2) | filler.unsqueeze(1), 0.0)
        system.diagonal(dim1=1, dim2=2).add_(filler.double())
        known = targets[part].gather(1, order).masked_fill_(filler, 0.0)
        solved = torch.cholesky_solve(known.unsqueeze(2), torch.linalg.cholesky(system)).squeeze(2)
        fitted[part] = torch.zeros_like(targets[part]).scatter_(1, order, solved.masked_fill_(filler, 0.0))
        begin = width_at
    return fitted


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
