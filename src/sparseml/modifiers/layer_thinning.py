"""Layer thinning: heads and feed-forward neurons that are zero are removed, so that every runtime is faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from sparseml.modifiers.base import NOMINAL, Clock, Epoch, Modifier, ModifierError, Run, without_effect
from sparseml.modifiers.pruning import GradualPruningModifier
from sparseml.modifiers.resizing import keep_first, keep_units, set_width
from sparseml.modifiers.units import Block, Kind, blocks, by_unit

if TYPE_CHECKING:
    import torch
    from torch import nn

# Activation functions whose value at 0 is 0.
_ZERO_AT_ZERO = ("gelu", "relu", "silu", "swish", "quick_gelu", "mish")


class LayerThinningModifier(Modifier):
    """Removes heads and feed-forward neurons that are zero at its start: the Linear layers get smaller.

    What the model computes stays the same, up to the order of sums. Training goes on with what remains: moments of the
    optimizer and masks are cut along. A checkpoint with as many neurons in each layer is one of plain Transformers, as
    `intermediate_size` says it; one without some heads, or with layers that differ, needs this project's loading.
    """

    one_shot = True
    starts_last = True
    loads = -1

    structure_type: Literal["filter", "channel", "head", "neuron"] = Field(
        "filter", description="what is removed: head, neuron, or both, which filter and channel mean"
    )
    param_group_dependency_map: Any = without_effect(
        None, "the architecture says which weights depend on which"
    )
    update_epochs: list[Epoch] | None = Field(
        None, description="epochs after its start at which it removes again"
    )
    strict: bool = Field(True, description="whether it is an error that nothing is zero")

    _done: bool = PrivateAttr(False)

    def structure(self, run: Run) -> None:
        """Check that heads and neurons of this model can be removed."""
        self._blocks(run)

    def on_start(self, run: Run) -> None:
        """Remove, or continue a resumed run, whose model is smaller already."""
        if run.one_shot or run.step == self.first_step(run.clock):
            self._remove(run)

    def before_step(self, run: Run) -> None:
        if run.step > self.first_step(run.clock) and run.step in map(
            run.clock.step, self.update_epochs or ()
        ):
            self._remove(run)

    def conflicts_with(self, other: Modifier) -> str | None:
        """It must not remove units while their share is counted."""
        if not isinstance(other, GradualPruningModifier) or not other.whole_units:
            return None
        steps = [self.first_step(NOMINAL), *map(NOMINAL.step, self.update_epochs or ())]
        if not any(other.first_step(NOMINAL) <= step < other.final_step(NOMINAL) for step in steps):
            return None
        return (
            f"{self.name} removes what {other.name} in line {other.place[1]} is still pruning: let it begin where the "
            f"sparsity is final, at epoch {NOMINAL.epoch(other.final_step(NOMINAL)):g}."
        )

    def final_from(self, clock: Clock) -> float:
        """Its last removal."""
        return max([self.first_step(clock), *map(clock.step, self.update_epochs or ())])

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        steps = [self.first_step(clock), *map(clock.step, self.update_epochs or ())]
        return [(step, "zero heads and neurons removed") for step in dict.fromkeys(steps)]

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        """The number of units of each block, once it has removed some."""
        import torch

        if not self._done:
            return {}
        return {f"{block.name}.kept": torch.tensor(block.units) for block in self._blocks(run)}

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        """Make the model as small as the one whose weights will be loaded."""
        self._done = bool(state)
        sizes = {key.removesuffix(".kept"): int(value) for key, value in state.items()}
        keep_first(run, {block: sizes[block.name] for block in self._blocks(run) if block.name in sizes})

    def _blocks(self, run: Run) -> list[Block]:
        kinds: tuple[Kind, ...] = ("head", "neuron")
        if self.structure_type in kinds:
            kinds = (self.structure_type,)
        elif not heads_can_go(run.model):
            kinds = ("neuron",)
        if "head" in kinds and not heads_can_go(run.model):
            raise ModifierError(
                f"{self.name}: the heads of {type(run.model).__name__} share a table of position biases, so single "
                "ones cannot be removed: give structure_type: neuron."
            )
        return [block for kind in kinds for block in blocks(run.model, kind, self.name)]

    def _remove(self, run: Run) -> None:
        found = self._blocks(run)
        zero = {block.name: zero_units(run.model, block) for block in found}
        if not any(bool(units.any()) for units in zero.values()):
            if self.strict and not self._done:
                raise ModifierError(
                    f"{self.name} removes heads and neurons that are zero, and there are none: prune them before, with "
                    "!StructuredPruningModifier and mask_type head or neuron; or give strict: false."
                )
            return
        kept = []
        for block in found:
            units = (~zero[block.name]).nonzero()[:, 0]
            if len(units) < block.units:
                kept.append((block, units if len(units) else units.new_zeros(1)))
        keep_units(run, kept)
        set_width(run.model)
        self._done = True


def zero_units(model: nn.Module, block: Block) -> torch.Tensor:
    """Which heads or neurons contribute nothing: [units], True where so.

    Either nothing reads a unit, its columns of the output are zero; or what it puts out is zero: its rows of the value,
    or of the layer before an activation function that maps 0 to 0, and their biases.
    """
    by_path = {
        part.parameter: by_unit(model.get_parameter(part.parameter).detach(), part) for part in block.parts
    }
    unread = (by_path[block.parts[-1].parameter] == 0).all(1)
    config: Any = model.config
    activation = str(getattr(config, "hidden_act", None) or getattr(config, "activation", ""))
    if block.kind == "neuron" and not activation.startswith(_ZERO_AT_ZERO):
        return unread
    last = block.parts[-2].parameter.rpartition(".")[
        0
    ]  # the value, or the layer before the activation function
    silent = [(values == 0).all(1) for name, values in by_path.items() if name.rpartition(".")[0] == last]
    for each in silent[1:]:
        silent[0] = silent[0] & each
    return unread | silent[0]


def heads_can_go(model: nn.Module) -> bool:
    """Whether nothing but the attention itself counts its heads: MPNet adds a bias for each head of the model."""
    return not any(name.endswith("relative_attention_bias") for name, _ in model.named_modules())
