"""Constant pruning: the zeros of a pruned model stay zero through fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sparseml.modifiers.base import ModifierError, Run, without_effect
from sparseml.modifiers.masks import DENSE_BELOW
from sparseml.modifiers.pruning import MaskedModifier

if TYPE_CHECKING:
    import torch


class ConstantPruningModifier(MaskedModifier):
    """Keeps every weight that is zero at its start at exactly zero.

    Gradients of pruned weights are zeroed by tensor hooks, before clipping, so that they never enter the
    norm and Adam's moments stay zero; after each step the weights are masked again.
    """

    one_shot = True

    update_frequency: float = without_effect(-1, "the mask is that of the start and never changes")

    def on_start(self, run: Run) -> None:
        """Take the mask from the zeros (or from the resumed checkpoint) and hold it."""
        if not self._masks.pruned:
            found = {name: parameter.detach() == 0 for name, parameter in self.parameters(run).items()}
            self._refuse_dense(found, run)
            self._masks.pruned = found
        self.hold(run)

    def _refuse_dense(self, found: Mapping[str, torch.Tensor], run: Run) -> None:
        total = sum(pruned.numel() for pruned in found.values())
        zeros = sum(int(pruned.sum()) for pruned in found.values())
        if zeros < DENSE_BELOW * total and not run.allow_dense_start:
            raise ModifierError(
                f"{self.name} holds the zeros of a pruned model, but of the {total:,} weights that it selects "
                f"only {zeros / max(total, 1):.1%} are zero: the result would be as dense as the start. Start from "
                "a pruned checkpoint (`sparsezoo search` lists some), or allow it with --allow_dense_start."
            )
