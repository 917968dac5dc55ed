"""Magnitude pruning: the weights closest to zero go, gradually (Zhu and Gupta 2017, arXiv:1710.01878)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sparseml.modifiers.base import Run
from sparseml.modifiers.pruning import GradualPruningModifier

if TYPE_CHECKING:
    import torch


class MagnitudePruningModifier(GradualPruningModifier):
    """Prunes the weights of least magnitude, of each parameter the same share.

    Zhu and Gupta 2017, arXiv:1710.01878. What is pruned stays pruned. `--one_shot` prunes to `final_sparsity` at once.
    """

    one_shot = True

    def scores(self, run: Run, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().abs() for name, parameter in parameters.items()}


class GlobalMagnitudePruningModifier(MagnitudePruningModifier):
    """Prunes the weights of least magnitude of all parameters together, by one threshold."""

    @property
    def one_threshold(self) -> bool:
        return True


class GMPruningModifier(MagnitudePruningModifier):
    """Prunes the weights of least magnitude: the older name of magnitude pruning."""

    global_sparsity: bool = Field(False, description="whether one threshold serves all parameters")
    score_type: Literal["magnitude"] = Field(
        "magnitude", description="only magnitude; other scores have modifiers of their own"
    )
    phased: Literal[False] = Field(False, description="only false; alternating with dense phases is gone")

    @property
    def one_threshold(self) -> bool:
        return self.global_sparsity
