"""Structured pruning: whole attention heads, feed-forward neurons, or rows and columns of Linear layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sparseml.modifiers.base import NOMINAL, Modifier, ModifierError, Run
from sparseml.modifiers.mask_shapes import Group, MaskShape
from sparseml.modifiers.masks import smallest
from sparseml.modifiers.pruning import GradualPruningModifier, PruningModifier
from sparseml.modifiers.select import ALL_PRUNABLE, as_list, select_parameters
from sparseml.modifiers.units import Block, Part, blocks, by_unit, lines

if TYPE_CHECKING:
    import torch
    from torch import nn


_NUMBERED = re.compile(r"\.\d+\.")
"""In the name of a parameter: it belongs to one of a list of layers."""


class StructuredPruningModifier(GradualPruningModifier):
    """Prunes whole units of least magnitude: heads, feed-forward neurons, or rows or columns of weights.

    A head is its rows of query, key and value, with their biases, and the columns of the attention's output that read
    it; a neuron is a row of the first feed-forward layer, with its bias, and a column of the second. Sparsity is the
    share of units. The zeros stay in place until `LayerThinningModifier` removes them. One unit of each layer stays.
    """

    one_shot = True
    whole_units = True

    params: Annotated[list[str], BeforeValidator(as_list)] = Field(
        [ALL_PRUNABLE],
        description="which parameters: names, re: patterns; of heads and neurons, those that have one of their weights "
        "among them; __ALL_PRUNABLE__: all of the encoder's layers",
    )
    mask_type: Literal["filter", "channel", "head", "neuron"] = Field(
        "filter",
        description="the units: head, neuron (of the feed-forward part), filter (row of a weight) or channel (column)",
    )
    param_groups: list[list[str]] | None = Field(
        None,
        description="with filter and channel: lists of weights that lose the same rows or columns",
    )
    global_sparsity: bool = Field(False, description="whether one threshold serves all layers")
    score_type: Literal["magnitude", "taylor"] = Field(
        "magnitude",
        description="magnitude: the L2 norm of a unit's weights; taylor: the estimated change of the loss without it",
    )
    num_grads: int = Field(64, ge=1, description="with taylor: training batches for an estimate")

    @field_validator("mask_type")
    @classmethod
    def _mask_type_is_known(cls, value: str | list[int]) -> str | list[int]:
        # Pydantic has checked it already.
        return value

    @model_validator(mode="after")
    def _targets_fit(self) -> StructuredPruningModifier:
        if isinstance(self.final_sparsity, dict):
            if not self.final_sparsity or (self.params and "params" in self.model_fields_set):
                raise ValueError("final_sparsity names parameters itself: leave params out, or give it []")
        elif not self.params:
            raise ValueError("params must be given, such as __ALL_PRUNABLE__")
        if self.param_groups is not None and self.mask_type in ("head", "neuron"):
            raise ValueError(
                f"param_groups is for filter and channel: what belongs to a {self.mask_type} is known"
            )
        return self

    @property
    def shape(self) -> MaskShape:
        """What a unit is in the weight that its block is called after."""
        if self.mask_type in ("filter", "channel"):
            return MaskShape(1, -1) if self.mask_type == "filter" else MaskShape(-1, 1)
        return MaskShape()

    @property
    def one_threshold(self) -> bool:
        """As `global_sparsity` says."""
        return self.global_sparsity

    def structure(self, run: Run) -> None:
        """Check that there are such units."""
        self.final_groups(run)

    def blocks(self, run: Run, entries: list[str] | None = None) -> list[Block]:
        """The blocks whose units are ranked, of the parameters that `entries` (or the recipe) name.

        Raises:
            ModifierError: an entry matches nothing, or there are no such units.
        """
        named = self._select(run, self.entries() if entries is None else entries)
        if self.mask_type in ("filter", "channel"):
            return self._lines(run, named)
        found = blocks(run.model, self.mask_type, self.name)
        chosen = [block for block in found if any(part.parameter in named for part in block.weights())]
        if not chosen:
            raise ModifierError(
                f"{self.name}: params names no weight of a {self.mask_type}: give weights such as "
                f"{found[0].parts[-1].parameter}, or __ALL_PRUNABLE__."
            )
        return chosen

    def parameters(self, run: Run) -> dict[str, torch.nn.Parameter]:
        """All that belongs to the units, in the model's order."""
        names = {part.parameter for block in self.blocks(run) for part in block.parts}
        return {name: each for name, each in run.model.named_parameters() if name in names}

    def ranked(self, run: Run, entries: list[str]) -> list[str]:
        """The names of the blocks."""
        return [block.name for block in self.blocks(run, entries)]

    def conflicts_with(self, other: Modifier) -> str | None:
        """Masks of weights are held beside those of units, but not chosen in the same epochs."""
        if isinstance(other, StructuredPruningModifier):
            apart = {self.mask_type, other.mask_type} == {"head", "neuron"}
            return None if apart else super().conflicts_with(other)
        if not isinstance(other, PruningModifier):
            return None
        if _chooses_until(other) <= self.first_step(NOMINAL) or self.final_step(NOMINAL) <= other.first_step(
            NOMINAL
        ):
            return None
        return (
            f"{self.name} and {other.name} in line {other.place[1]} both prune at the same time: let one begin where "
            "the other's sparsity is final."
        )

    def prune_to(self, run: Run, groups: list[Group]) -> None:
        found = self.blocks(run)
        masks = self._masks.pruned
        pruned = {
            block.name: by_unit(masks[part.parameter], part).all(1)
            for block in found
            for part in block.parts[-1:]
            if part.parameter in masks
        }
        scores = (
            magnitudes(run.model, found) if self.score_type == "magnitude" else self._importance(run, found)
        )
        self.set_masks(run, unit_masks(run.model, found, choose_units(scores, groups, pruned)))

    def _select(self, run: Run, entries: Sequence[str]) -> dict[str, nn.Parameter]:
        """As `select_parameters`, but __ALL_PRUNABLE__ leaves out what is not in the layers, such as the classifier."""
        rest = [entry for entry in entries if entry.upper() != ALL_PRUNABLE]
        named = select_parameters(run.model, rest, self.name)
        if len(rest) == len(entries):
            return named
        of_layers = select_parameters(run.model, [ALL_PRUNABLE], self.name)
        return named | {name: each for name, each in of_layers.items() if _NUMBERED.search(name)}

    def _lines(self, run: Run, named: Mapping[str, nn.Parameter]) -> list[Block]:
        """Filters or channels of the named weights, those of one group together."""
        from torch import nn

        dim = 0 if self.mask_type == "filter" else 1
        for name in named:
            path, _, leaf = name.rpartition(".")
            if leaf != "weight" or not isinstance(run.model.get_submodule(path), nn.Linear):
                raise ModifierError(
                    f"{self.name}: mask_type {self.mask_type} is for weights of Linear layers, and {name} is the "
                    f"{leaf} of a {type(run.model.get_submodule(path)).__name__}: leave it out of params."
                )
        grouped = [
            [name for name in select_parameters(run.model, group, self.name) if name in named]
            for group in self.param_groups or []
        ]
        inside = {name for group in grouped for name in group}
        if len(inside) < sum(map(len, grouped)):
            raise ModifierError(f"{self.name}: param_groups names a parameter in two groups.")
        grouped += [[name] for name in named if name not in inside]
        found = []
        for group in filter(None, grouped):
            sizes = {name: named[name].shape[dim] for name in group}
            if len(set(sizes.values())) > 1:
                raise ModifierError(
                    f"{self.name}: param_groups couples weights with different numbers of {self.mask_type}s: "
                    f"{', '.join(f'{name} has {size}' for name, size in sizes.items())}."
                )
            found.append(lines(group, sizes[group[0]], self.mask_type))
        return found

    def _sizes(self, run: Run, group: Group) -> dict[str, int]:
        return {block.name: block.units for block in self.blocks(run) if block.name in group.names}

    def _shares_of_zeros(self, run: Run) -> dict[str, float]:
        scores = magnitudes(run.model, self.blocks(run))
        return {name: int((score == 0).sum()) / len(score) for name, score in scores.items()}

    def _importance(self, run: Run, found: Sequence[Block]) -> dict[str, torch.Tensor]:
        """Mean of |dL/df| over training batches, f a factor on a unit's output (Michel et al. 2019, arXiv:1905.10650).

        The derivative is the sum of weight x gradient over the weights that read the output.
        """

        import torch

        from sparseml.modifiers.statistics import gradients
        from sparseml.processes import sum_over_processes

        if run.batches is None:
            raise ModifierError(
                f"{self.name}: score_type taylor needs the gradients of training batches, but there are no training "
                "data: give it some, such as with --train_file, or take magnitude."
            )
        weights = {
            part.parameter: run.model.get_parameter(part.parameter) for block in found for part in block.gates
        }
        sums: dict[str, torch.Tensor] = {}
        share = -(-self.num_grads // run.world_size)
        for all_found in gradients(run.model, list(weights.values()), run.batches(), share, None, self.name):
            moved = {
                name: (weight.detach() * gradient).double()
                for (name, weight), gradient in zip(weights.items(), all_found, strict=True)
            }
            for block in found:
                derivatives = [by_unit(moved[part.parameter], part).sum(1) for part in block.gates]
                sums[block.name] = torch.stack(derivatives).sum(0).abs() + sums.get(block.name, 0)
        return {name: sum_over_processes(values) for name, values in sums.items()}


def magnitudes(model: nn.Module, found: Sequence[Block]) -> dict[str, torch.Tensor]:
    """The L2 norm of each unit's weights, without biases: [units] by block."""
    import torch

    return {
        block.name: torch.stack(
            [_squares(model.get_parameter(part.parameter), part) for part in block.weights()]
        )
        .sum(0)
        .sqrt()
        for block in found
    }


def _squares(weight: torch.Tensor, part: Part) -> torch.Tensor:
    return by_unit(weight.detach().double().square(), part).sum(1)


def choose_units(
    scores: Mapping[str, torch.Tensor], groups: Sequence[Group], pruned: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Masks of the units with the smallest scores, exactly counted in each group; of equal ones the first.

    Args:
        scores: [units] by block, without NaN.
        groups: which blocks share a threshold, and what share of their units to prune.
        pruned: masks of units that are pruned already and stay so; {} at the start.

    Returns:
        True where pruned. Each group has round(sparsity * units) of them, but one unit of each block stays.
    """
    import math

    masks: dict[str, torch.Tensor] = {}
    for group in groups:
        ranked = {}
        for name in group.names:
            score = scores[name].clone()
            if name in pruned:
                score[pruned[name].to(score.device)] = -math.inf
            score[score.argmax()] = math.inf
            ranked[name] = score
        total = sum(map(len, ranked.values()))
        masks |= smallest(ranked, min(group.sparsity, 1 - len(ranked) / total), True)
    return masks


def unit_masks(
    model: nn.Module, found: Sequence[Block], units: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Masks of parameters, from masks of the units that they belong to."""
    import torch

    masks: dict[str, torch.Tensor] = {}
    for block in found:
        for part in block.parts:
            shape = model.get_parameter(part.parameter).shape
            whole = units[block.name].repeat_interleave(part.size)
            mask = whole.reshape([-1 if dim == part.dim else 1 for dim in range(len(shape))]).expand(shape)
            before = masks.get(part.parameter)
            masks[part.parameter] = mask.contiguous() if before is None else torch.logical_or(before, mask)
    return masks


def _chooses_until(other: PruningModifier) -> int:
    if isinstance(other, GradualPruningModifier):
        return other.final_step(NOMINAL)
    return other.first_step(NOMINAL) + 1
