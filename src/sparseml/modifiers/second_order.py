"""Second-order pruning: which weights to remove, and how the others make up for it. Pure functions on matrices.

Two models of the loss. The optimal BERT surgeon (Kurtic et al. 2022, arXiv:2203.07259) takes the Hessian of the
training loss to be the block-diagonal empirical Fisher matrix: `Fisher`, `obs_saliency`, `obs_update`. Optimal brain
compression (Frantar & Alistarh 2022, arXiv:2208.11580) prunes a layer so that its outputs on given inputs change
least, whose Hessian is X Xᵀ for each row of weights: `prune_columns`, in the fixed order of SparseGPT (Frantar &
Alistarh 2023, arXiv:2301.00774); `refit`, the best weights under a given mask.

Masks are True where a weight is pruned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sparseml.modifiers.mask_shapes import Group, MaskShape, choose_masks

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

    Attributes:
        values: Σ g gᵀ, [blocks, block_size, block_size]; or the gradients, [blocks, block_size, num_gradients].
        added: number of gradients.
    """

    def __init__(self, weights: int, block_size: int, num_gradients: int, device: torch.device) -> None:
        self._few = num_gradients < block_size
        self.values = torch.zeros(
            math.ceil(weights / block_size), block_size, min(block_size, num_gradients), device=device
        )
        self.added = 0

    def add(self, gradient: Tensor) -> None:
        """Add a gradient; flat, in the order of the weights."""
        blocks = as_blocks(gradient, self.values.shape[1]).to(self.values)
        if self._few:
            self.values[:, :, self.added] = blocks
        else:
            self.values.baddbmm_(blocks.unsqueeze(2), blocks.unsqueeze(1))
        self.added += 1

    def inverse(self, damp: float) -> Tensor:
        """The inverse of each block, [blocks, block_size, block_size]; it may take the place of `values`."""
        invert = woodbury_inverse if self._few else damped_inverse
        count, size, _ = self.values.shape
        inverse = self.values.new_empty(count, size, size) if self._few else self.values
        step = max(1, CHUNK // size**2)
        for begin in range(0, count, step):
            part = slice(begin, begin + step)
            inverse[part] = invert(self.values[part], damp, self.added)
        return inverse


def as_blocks(values: Tensor, block_size: int) -> Tensor:
    """Flat values as [blocks, block_size], the last block filled up with zeros."""
    flat = values.reshape(-1)
    blocks = math.ceil(flat.numel() / block_size)
    return torch.nn.functional.pad(flat, (0, blocks * block_size - flat.numel())).view(blocks, block_size)


def as_tiles(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix in tiles of rows x columns, flat, tile after tile; edges are filled up with zeros."""
    if rows == columns == 1:
        return matrix.reshape(-1)
    height, width = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -width % columns, 0, -height % rows))
    return padded.reshape(len(padded) // rows, rows, -1, columns).transpose(1, 2).reshape(-1)


def from_tiles(values: Tensor, shape: torch.Size, rows: int, columns: int) -> Tensor:
    """The matrix of that shape that `as_tiles` made flat."""
    if rows == columns == 1:
        return values.reshape(shape)
    height, width = math.ceil(shape[0] / rows), math.ceil(shape[1] / columns)
    matrix = values.reshape(height, width, rows, columns).transpose(1, 2)
    return matrix.reshape(height * rows, width * columns)[: shape[0], : shape[1]]


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


def prune_layer(
    weight: Tensor,
    hessian: Tensor,
    sparsity: float,
    shape: MaskShape,
    damp: float = 0.01,
    block_size: int = 64,
    steps: int = 4,
) -> tuple[Tensor, Tensor]:
    """Prune a layer so that its outputs on given inputs change little.

    SparseGPT's order, which is fast, prunes until half as many weights again are left as are to stay. The last ones
    go in `steps` by their exact cost, with all others refitted in between, as in optimal brain compression.

    Args:
        weight: [rows, columns].
        hessian: X Xᵀ of the layer's inputs, [columns, columns].
        sparsity: share to prune, round(sparsity * units) units of the shape over the whole layer.
        shape: of the mask.
        damp: see `dampened`.
        block_size: columns whose masks SparseGPT's order chooses at once.
        steps: 0: all in SparseGPT's order.

    Returns:
        The pruned weights, in the weight's precision, and the mask. ‖ΔW X‖ is at most that of magnitude pruning.
    """
    matrix, dense = dampened(hessian, damp), weight.double()

    def smallest(scores: Tensor, share: float, keep: Tensor | None = None) -> Tensor:
        kept = None if keep is None else {"": keep}
        return choose_masks({"": scores}, [Group(("",), share)], shape, kept)[""]

    units, columns = shape.unit_scores(dense).numel(), weight.shape[1]
    count = round(sparsity * units)
    if count in (0, units):
        pruned = torch.full_like(weight, count > 0, dtype=torch.bool)
        return weight.masked_fill(pruned, 0.0), pruned
    kept = 1 - count / units
    first = max(1 - 1.5 * kept, 0.0) if steps else 1 - kept
    group = columns if shape.columns == -1 else shape.columns
    span = shape.of or math.ceil(block_size / group) * group
    choose = _quotas(shape, round(first * units), columns)
    pruned = prune_columns(dense, matrix, choose, span, group)[1]
    unit = 1 if columns % group else group
    fitted, costs = refit(dense, matrix, pruned, unit)
    for step in range(1, steps + 1):
        share = 1 - (1 - first) * (kept / (1 - first)) ** (step / steps)
        pruned = smallest(costs, share, pruned)
        fitted, costs = refit(dense, matrix, pruned, unit)
    by_magnitude = smallest(dense.abs(), sparsity)
    plain = dense.masked_fill(by_magnitude, 0.0)
    if output_error(fitted - dense, hessian) > output_error(plain - dense, hessian):
        pruned, fitted = by_magnitude, refit(dense, matrix, by_magnitude)[0]
    return fitted.to(weight), pruned


def _quotas(shape: MaskShape, count: int, columns: int) -> Choose:
    """Prune the smallest units of each span of columns, in each the same share; `count` of them in all."""
    done = 0

    def choose(saliency: Tensor, begin: int) -> Tensor:
        nonlocal done
        here = shape.unit_scores(saliency).numel()
        quota = round(count * (begin + saliency.shape[1]) / columns) - done
        done += quota
        return choose_masks({"": saliency}, [Group(("",), quota / here)], shape)[""]

    return choose


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
    factor = torch.linalg.cholesky(
        torch.cholesky_inverse(torch.linalg.cholesky(hessian.double())), upper=True
    )
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


def refit(weight: Tensor, hessian: Tensor, pruned: Tensor, group: int = 1) -> tuple[Tensor, Tensor]:
    """The weights under a mask whose outputs are nearest to the dense layer's: for each row least squares.

    With K a row's kept columns: w'_K = ([X Xᵀ]_KK)⁻¹ [X Xᵀ]_K: w (arXiv:2208.11580, section 4), and the cost of
    removing one more of them, the others making up for it: w'_j² / [([X Xᵀ]_KK)⁻¹]_jj.

    Args:
        weight: dense, [rows, columns].
        hessian: X Xᵀ, positive definite: see `dampened`.
        pruned: [rows, columns]; in each row whole groups.
        group: consecutive columns that are removed together; divides their number.

    Returns:
        The weights, exactly 0 where pruned, and the costs, [rows, columns] in double precision. Each weight of a
        group has an equal share of the group's cost.
    """
    matrix = hessian.double()
    targets = weight.double() @ matrix
    fitted, costs = torch.zeros_like(targets), torch.zeros_like(targets)
    kept_counts = (~pruned).sum(1)
    rows = kept_counts.argsort(stable=True)
    begin = int((kept_counts == 0).sum())
    while begin < len(rows):
        # Rows of about the same number of kept weights at once; the shorter ones are filled up with pruned columns,
        # whose equations become w' = 0.
        part = rows[begin : begin + max(1, CHUNK // int(kept_counts[rows[begin]]) ** 2)]
        begin += len(part)
        order = pruned[part].to(torch.uint8).argsort(dim=1, stable=True)[:, : int(kept_counts[part[-1]])]
        filler = pruned[part].gather(1, order)
        system = matrix[order.unsqueeze(2), order.unsqueeze(1)]
        system.masked_fill_(filler.unsqueeze(2) | filler.unsqueeze(1), 0.0)
        system.diagonal(dim1=1, dim2=2).add_(filler.double())
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(system))
        known = targets[part].gather(1, order).masked_fill_(filler, 0.0)
        solved = torch.einsum("rij,rj->ri", inverse, known)
        fitted[part] = fitted[part].scatter_(1, order, solved)
        shared = (2.0 / group) * obs_saliency(solved, inverse, group)
        costs[part] = costs[part].scatter_(1, order, shared.repeat_interleave(group, 1))
    return fitted, costs
