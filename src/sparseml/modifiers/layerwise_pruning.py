"""Layer-wise pruning: one shot, from the inputs of the layers on calibration batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from sparseml.modifiers.base import Batch, Clock, ModifierError, Run
from sparseml.modifiers.mask_shapes import choose_masks, upright
from sparseml.modifiers.pruning import PruningModifier
from sparseml.modifiers.select import is_transposed

if TYPE_CHECKING:
    import torch
    from torch import nn


class LayerwisePruningModifier(PruningModifier):
    """Prunes Linear layers at its start so that their outputs on training batches change least, then holds the masks.

    Optimal brain compression (Frantar & Alistarh 2022, arXiv:2208.11580) in SparseGPT's order (arXiv:2301.00774):
    minutes on a CPU for a small encoder. It needs no gradients and no labels. Layers are pruned in the order in which
    the model calls them, each with the outputs of those that are pruned already as its inputs.
    """

    one_shot = True

    global_sparsity: bool = Field(
        False,
        description="whether final_sparsity holds for all parameters together: each layer is pruned to the share "
        "that one threshold on the weights' magnitude gives it",
    )
    num_calibration_steps: int = Field(64, ge=1, description="batches that the layers' inputs are taken from")
    damp: float = Field(
        0.01, gt=0, description="added to the diagonal of the layers' Hessian, as a share of its mean"
    )
    block_size: int = Field(64, ge=1, description="columns whose masks are chosen at once")
    num_recomputations: int = Field(
        4,
        ge=0,
        description="steps in which the last third is pruned by exact costs; 0: none, which is faster",
    )
    sequential: bool = Field(
        True, description="whether a layer sees the outputs of the pruned ones before it; false is faster"
    )

    def structure(self, run: Run) -> None:
        """Check that the parameters are weights of Linear layers, and that the mask's shape fits them."""
        super().structure(run)
        self._layers(run)

    def calibration_batches(self, run: Run) -> int:
        """As `num_calibration_steps` says."""
        return self.num_calibration_steps

    def calibrate(self, run: Run, batches: Iterable[Batch]) -> None:
        """Prune all layers."""
        from sparseml.modifiers.statistics import input_groups, input_products

        batches, layers = list(batches), self._layers(run)
        if not batches:
            raise ModifierError(f"{self.name} needs training data, but there is not one batch.")
        self._masks.pruned = {}
        shares, masks = self._shares(run), {}
        order, calls = input_groups(run.model, layers, batches[0])
        if not self.sequential:
            products = input_products(run.model, layers, batches)
        for together in order:
            first = together[0]
            if self.sequential:
                product = input_products(run.model, {first: layers[first]}, batches, calls[first])[first]
            for name in together:
                hessian = product if self.sequential else products[name]
                masks[name] = self._prune_layer(layers[name], hessian, shares[name])
        self.set_masks(run, {name: masks[name] for name in layers})

    def on_start(self, run: Run) -> None:
        """Hold the masks."""
        self.hold(run)

    def final_from(self, clock: Clock) -> float:
        """The step before its start."""
        return self.first_step(clock) - 1

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        """Its start."""
        shares = " and ".join(f"{share:.1%}" for share in dict.fromkeys(self.targets()))
        return [(self.first_step(clock), f"pruned to {shares}")]

    @property
    def one_threshold(self) -> bool:
        """As `global_sparsity` says."""
        return self.global_sparsity

    def _prune_layer(self, layer: nn.Linear, hessian: torch.Tensor, share: float) -> torch.Tensor:
        import torch

        from sparseml.modifiers.second_order import prune_layer

        transposed = is_transposed(layer)
        weight = layer.weight.detach()
        fitted, pruned = prune_layer(
            weight.T if transposed else weight,
            hessian,
            share,
            self.shape,
            self.damp,
            self.block_size,
            self.num_recomputations,
        )
        with torch.no_grad():
            layer.weight.copy_(fitted.T if transposed else fitted)
        return pruned.T.contiguous() if transposed else pruned

    def _layers(self, run: Run) -> dict[str, nn.Linear]:
        """The selected parameters' layers, by the parameters' names.

        Raises:
            ModifierError: a parameter is not the weight of a Linear layer.
        """
        from torch.nn import Linear
        from transformers.pytorch_utils import Conv1D

        layers = {}
        for name in self.parameters(run):
            path, _, part = name.rpartition(".")
            layer = run.model.get_submodule(path)
            if part != "weight" or not isinstance(layer, (Linear, Conv1D)):
                raise ModifierError(
                    f"{self.name} prunes weights of Linear layers, and {name} belongs to {type(layer).__name__}: "
                    "leave it out of params (__ALL_PRUNABLE__ are the weights of all Linear layers)."
                )
            layers[name] = layer
        return layers

    def _shares(self, run: Run) -> dict[str, float]:
        groups = self.final_groups(run)
        if not self.global_sparsity:
            return {name: group.sparsity for group in groups for name in group.names}
        transposed = self.transposed(run)
        magnitudes = {
            name: upright(weight.detach().abs(), name in transposed)
            for name, weight in self.parameters(run).items()
        }
        masks = choose_masks(magnitudes, groups, self.shape)
        units = {
            name: mask if self.shape.of else self.shape.unit_scores(mask) for name, mask in masks.items()
        }
        return {name: int((unit > 0.5).sum()) / unit.numel() for name, unit in units.items()}
