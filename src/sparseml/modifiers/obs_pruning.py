"""The optimal BERT surgeon: gradual pruning by second-order saliency (Kurtic et al. 2022, arXiv:2203.07259)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from resparse.console import warn
from resparse.progress import track
from sparseml.modifiers.base import Batch, ModifierError, Run
from sparseml.modifiers.mask_shapes import Group, choose_masks, upright
from sparseml.modifiers.pruning import GradualPruningModifier
from sparseml.processes import from_own_parts, own_part, sum_over_processes, sum_own_part

if TYPE_CHECKING:
    import torch

    from sparseml.modifiers.second_order import Fisher


class GradientSampling(BaseModel):
    """How gradients are sampled."""

    model_config = ConfigDict(extra="forbid")

    batch_size: int | None = Field(
        None, ge=1, description="rows for one gradient, at most a training batch; by default all of one"
    )


class OBSPruningModifier(GradualPruningModifier):
    """Prunes the weights whose removal costs the loss least, and adjusts the others to make up for it.

    The optimal BERT surgeon (Kurtic et al. 2022, arXiv:2203.07259): at every update the inverse of the block-diagonal
    empirical Fisher matrix is estimated from gradients of single training batches, in evaluation mode.
    `num_recomputations` splits an update into that many smaller ones, each with an estimate of its own. Memory:
    `fisher_block_size` floats for each weight.
    """

    one_shot = True

    global_sparsity: bool = Field(True, description="whether one threshold serves all parameters")
    num_grads: int = Field(
        1024, ge=1, description="gradients for an estimate; fewer where an epoch has fewer batches"
    )
    damp: float = Field(1e-7, gt=0, description="added to the diagonal of the Fisher matrix")
    fisher_block_size: int = Field(
        50, ge=1, description="consecutive weights in a block of the Fisher matrix; whole blocks of the mask"
    )
    grad_sampler_kwargs: GradientSampling | None = Field(
        None, description="{batch_size: rows for one gradient}; a training batch is split"
    )
    num_recomputations: int = Field(
        1, ge=1, description="estimates in one update, each for an equal share of it"
    )

    _few_said: bool = PrivateAttr(False)

    @property
    def one_threshold(self) -> bool:
        """As `global_sparsity` says."""
        return self.global_sparsity

    def prune_to(self, run: Run, groups: list[Group]) -> None:
        """Update masks and weights in `num_recomputations` steps of equal size."""
        current = [self._share_pruned(group) for group in groups]
        if all(group.sparsity <= share for group, share in zip(groups, current, strict=True)):
            self.hold(run)
            return
        for count in range(1, self.num_recomputations + 1):
            fraction = count / self.num_recomputations
            self._prune_once(
                run,
                [
                    Group(group.names, share + fraction * (max(group.sparsity, share) - share))
                    for group, share in zip(groups, current, strict=True)
                ],
            )

    def _share_pruned(self, group: Group) -> float:
        masks = [self._masks.pruned[name] for name in group.names if name in self._masks.pruned]
        return sum(int(mask.sum()) for mask in masks) / max(sum(mask.numel() for mask in masks), 1)

    def _prune_once(self, run: Run, groups: list[Group]) -> None:
        import torch

        from sparseml.modifiers.second_order import as_blocks, as_tiles, from_tiles, obs_saliency, obs_update

        parameters = self.parameters(run)
        # Each process has its part of the blocks: it inverts them, and all learn what follows for the weights.
        fishers = self._estimate(run, parameters)
        inverses = {
            name: fisher.inverse(self.damp) for name, fisher in track(fishers.items(), "inverting curvature")
        }
        fishers.clear()
        transposed = self.transposed(run)
        blocks, scores = {}, {}
        for name, parameter in track(parameters.items(), "weighing"):
            weight = upright(parameter.detach(), name in transposed)
            rows, columns, size, unit = self._layout(weight.shape)
            whole = as_blocks(as_tiles(weight, rows, columns), size)
            blocks[name] = whole[own_part(len(whole))]
            saliency = from_own_parts(obs_saliency(blocks[name], inverses[name], unit) / unit, len(whole))
            flat = saliency.repeat_interleave(unit, 1).reshape(-1)
            score = from_tiles(_cut(flat, weight.shape, rows, columns), weight.shape, rows, columns)
            scores[name] = upright(score, name in transposed)
        masks = choose_masks(scores, groups, self.shape, self._masks.pruned, transposed)
        with torch.no_grad():
            for name, parameter in track(parameters.items(), "adjusting weights"):
                mask = upright(masks[name].to(torch.uint8), name in transposed)
                rows, columns, size, _ = self._layout(mask.shape)
                pruned = as_blocks(as_tiles(mask, rows, columns), size).bool()
                own = obs_update(blocks.pop(name), inverses.pop(name), pruned[own_part(len(pruned))])
                change = from_own_parts(own, len(pruned)).reshape(-1)
                change = _cut(change, mask.shape, rows, columns)
                parameter.add_(upright(from_tiles(change, mask.shape, rows, columns), name in transposed))
        self.set_masks(run, masks)

    def _layout(self, shape: torch.Size) -> tuple[int, int, int, int]:
        """The tiles that a parameter's weights are taken in, the weights in a Fisher block, and those in a unit.

        A unit of the mask lies within a Fisher block; where it is larger, its saliency is the sum over the blocks,
        as they have no common terms.
        """
        if len(shape) != 2:
            return 1, 1, self.fisher_block_size, 1
        rows = shape[0] if self.shape.rows == -1 else self.shape.rows
        columns = shape[1] if self.shape.columns == -1 else self.shape.columns
        tile = rows * columns
        if tile <= self.fisher_block_size:
            return rows, columns, self.fisher_block_size // tile * tile, tile
        size = max(size for size in range(1, self.fisher_block_size + 1) if math.gcd(size, tile) == size)
        return rows, columns, size, size

    def _estimate(self, run: Run, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, Fisher]:
        from sparseml.modifiers.second_order import Fisher, as_tiles
        from sparseml.modifiers.statistics import gradients

        if run.batches is None:
            raise ModifierError(
                f"{self.name} needs the gradients of training batches, but there are no training data: give it some, "
                "such as with --train_file."
            )
        share = -(-self.num_grads // run.world_size)
        transposed = self.transposed(run)
        layouts, fishers = {}, {}
        for name, parameter in parameters.items():
            weight = upright(parameter.detach(), name in transposed)
            rows, columns, size, _ = layouts[name] = self._layout(weight.shape)
            count = as_tiles(weight, rows, columns).numel()
            # The sums of all processes' products are added, which single gradients cannot be.
            most = share if run.world_size == 1 else max(share, size)
            fishers[name] = Fisher(count, size, most, parameter.device)
        batch_size = self.grad_sampler_kwargs.batch_size if self.grad_sampler_kwargs else None
        seen = _Counted(run.batches())
        sampled = gradients(run.model, list(parameters.values()), seen, share, batch_size, self.name)
        for found in track(sampled, "sampling gradients", share):
            for (name, fisher), gradient in zip(fishers.items(), found, strict=True):
                pruned = self._masks.pruned.get(name)
                free = gradient if pruned is None else gradient.masked_fill(pruned.to(gradient.device), 0.0)
                fisher.add(as_tiles(upright(free, name in transposed), *layouts[name][:2]))
        self._say_if_few(*_over_processes(list(fishers.values()), seen.rows))
        return fishers

    def _say_if_few(self, found: int, rows: int) -> None:
        """Warn, once, where an epoch had fewer gradients than were asked for.

        Raises:
            ModifierError: there was none.
        """
        if not found:
            raise ModifierError(
                f"{self.name} needs the gradients of training batches, but an epoch has not one of them: give more "
                "data, or a smaller batch."
            )
        if found >= self.num_grads or self._few_said:
            return
        self._few_said = True
        warn(
            f"{self.name}: num_grads is {self.num_grads:,}, but an epoch's {rows:,} rows give {found:,} gradients: "
            f"the cost of weights is estimated from these. grad_sampler_kwargs: {{batch_size: "
            f"{max(rows // self.num_grads, 1)}}} takes more of the same rows."
        )


class _Counted:
    """Batches, and the rows of those that were taken."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self.rows += len(next(iter(batch.values())))
            yield batch


def _over_processes(fishers: Sequence[Fisher], rows: int) -> tuple[int, int]:
    """Sum what the processes found, each its part of the blocks; returns the number of all their gradients and rows."""
    import torch

    device = fishers[0].values.device
    found, all_rows = sum_over_processes(torch.tensor([fishers[0].added, rows], device=device)).tolist()
    for fisher in fishers:
        fisher.values = sum_own_part(fisher.values)
        fisher.added = int(found)
    return int(found), int(all_rows)


def _cut(values: torch.Tensor, shape: torch.Size, rows: int, columns: int) -> torch.Tensor:
    """Without the zeros that fill up the last block; those of the tiles stay."""
    if len(shape) != 2:
        return values[: shape.numel()]
    return values[: -(-shape[0] // rows) * rows * -(-shape[1] // columns) * columns]
