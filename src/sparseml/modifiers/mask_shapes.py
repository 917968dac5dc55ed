"""Shapes of masks: single weights, blocks of a matrix, or N of every M inputs; and the choice of masks by scores."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparseml.modifiers.base import ModifierError
from sparseml.modifiers.masks import smallest

if TYPE_CHECKING:
    import torch

NEAR = 1e-2
"""How far a target may lie from the sparsity that an N:M pattern has."""

NAMED = {"tensorrt": "2:4", "block": "block4"}


@dataclass(frozen=True)
class Group:
    """Parameters that are pruned together, by one threshold.

    Attributes:
        names: of the parameters.
        sparsity: the share of their weights to prune, from 0 to 1.
    """

    names: tuple[str, ...]
    sparsity: float


@dataclass(frozen=True)
class MaskShape:
    """What is pruned as one unit of a weight matrix [outputs, inputs].

    Attributes:
        rows, columns: of a block; -1 is the whole dimension. 1 x 1 is a single weight.
        padded: whether blocks at the matrix's edge may be smaller; otherwise blocks must divide it.
        kept, of: of every `of` consecutive inputs of an output at most `of - kept` are pruned; 0 without a pattern.
    """

    rows: int = 1
    columns: int = 1
    padded: bool = False
    kept: int = 0
    of: int = 0

    @property
    def most(self) -> float:
        """The largest sparsity that this shape allows."""
        return 1 - self.kept / self.of if self.of else 1.0

    def share(self, sparsity: float) -> float:
        """A recipe's target; that of the pattern where it is the pattern's, rounded (0.33 for 2:3)."""
        return self.most if self.of and abs(sparsity - self.most) <= NEAR else sparsity

    def check(self, name: str, shape: Sequence[int], who: str) -> None:
        """Refuse a parameter that this shape does not fit.

        Raises:
            ModifierError: it is no matrix, or its sides are not divisible.
        """
        if self.rows == self.columns == 1 and not self.of:
            return
        if len(shape) != 2:
            raise ModifierError(
                f"{who}: {name} has shape {list(shape)}; mask_type {self} is for matrices: leave it out of params."
            )
        if self.of:
            rows, columns = 1, self.of
        else:
            rows, columns = self._block(shape)
        if not self.padded and (shape[0] % rows or shape[1] % columns):
            raise ModifierError(
                f"{who}: {name} has shape {list(shape)}, which mask_type {self} does not divide: choose a shape "
                "that does, or leave the parameter out of params."
            )

    def unit_scores(self, score: torch.Tensor) -> torch.Tensor:
        """One score for each unit.

        Blocks have their weights' mean. Under an N:M pattern weights that must be kept score infinity: of each
        group all but the `of - kept` smallest.
        """
        import torch

        if self.of:
            grouped = score.reshape(*score.shape[:-1], -1, self.of)
            order = grouped.argsort(dim=-1, stable=True)
            free = torch.zeros_like(grouped, dtype=torch.bool)
            free.scatter_(-1, order[..., : self.of - self.kept], True)
            return grouped.masked_fill(~free, math.inf).reshape(score.shape)
        if self.rows == self.columns == 1:
            return score
        rows, columns = self._block(score.shape)
        return self._sums(score.double(), rows, columns) / self._sums(
            torch.ones_like(score, dtype=torch.float64), rows, columns
        )

    def expand(self, mask: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """A mask of units as a mask of weights, of the parameter's shape."""
        if self.of or self.rows == self.columns == 1:
            return mask
        rows, columns = self._block(shape)
        whole = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
        return whole[: shape[0], : shape[1]].contiguous()

    def _block(self, shape: Sequence[int]) -> tuple[int, int]:
        return (
            shape[0] if self.rows == -1 else self.rows,
            shape[1] if self.columns == -1 else self.columns,
        )

    def _sums(self, values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        import torch

        height, width = values.shape
        padded = torch.nn.functional.pad(values, (0, -width % columns, 0, -height % rows))
        return padded.reshape(padded.shape[0] // rows, rows, -1, columns).sum(dim=(1, 3))

    def __str__(self) -> str:
        if self.of:
            return f"{self.kept}:{self.of}"
        if self.padded:
            return "block4"
        return "unstructured" if self.rows == self.columns == 1 else f"[{self.rows}, {self.columns}]"


def parse_mask_type(value: str | Sequence[int]) -> MaskShape:
    """A recipe's `mask_type`.

    Args:
        value: `unstructured`; `block4`, 4 inputs of an output; `[r, c]`, r outputs by c inputs (-1: all of them);
            `N:M`, at least N of every M consecutive inputs stay; `tensorrt`, 2:4.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(value, str):
        if len(value) == 2 and all(side == -1 or side > 0 for side in value):
            return MaskShape(rows=value[0], columns=value[1])
        raise ValueError(f"{list(value)} is no block: give [rows, columns], each above 0, or -1 for all")
    name = NAMED.get(value, value)
    if name == "unstructured":
        return MaskShape()
    if name == "block4":
        return MaskShape(columns=4, padded=True)
    pattern = re.fullmatch(r"(\d+):(\d+)", name)
    if pattern is not None and 0 < int(pattern[1]) < int(pattern[2]):
        return MaskShape(kept=int(pattern[1]), of=int(pattern[2]))
    raise ValueError(
        f"{value!r} is no shape of a mask: give unstructured, block4, a block as [rows, columns], or N:M such as "
        "2:4 (N of every M inputs stay)"
    )


def upright(matrix: torch.Tensor, transposed: bool) -> torch.Tensor:
    """A matrix that may be [inputs, outputs] as [outputs, inputs]; and back."""
    return matrix.mT.contiguous() if transposed else matrix


def choose_masks(
    scores: Mapping[str, torch.Tensor],
    groups: Sequence[Group],
    shape: MaskShape,
    keep: Mapping[str, torch.Tensor] | None = None,
    transposed: Collection[str] = (),
) -> dict[str, torch.Tensor]:
    """Masks of the units with the smallest scores, exactly counted in each group; of equal ones the first.

    Args:
        scores: by parameter name, without NaN; block shapes prune by the mean of a block's.
        groups: which parameters share a threshold, and how much of them to prune.
        shape: of the units; the parameters must fit it (`MaskShape.check`).
        keep: masks of what is pruned already and stays so; it must be made of whole units.
        transposed: the names of matrices that are [inputs, outputs].

    Returns:
        Masks by name, on the scores' devices: True where pruned. Each group has round(sparsity * units) of them,
        but no more than the shape allows.
    """
    units: dict[str, torch.Tensor] = {}
    for name, score in scores.items():
        kept = keep.get(name) if keep else None
        ranked = score if kept is None else score.masked_fill(kept.to(score.device), -math.inf)
        units[name] = shape.unit_scores(upright(ranked, name in transposed))
    masks: dict[str, torch.Tensor] = {}
    for group in groups:
        of_units = smallest(
            {name: units[name] for name in group.names}, min(group.sparsity, shape.most), True
        )
        for name, mask in of_units.items():
            sides = scores[name].shape[::-1] if name in transposed else scores[name].shape
            masks[name] = upright(shape.expand(mask, sides), name in transposed)
    return masks
