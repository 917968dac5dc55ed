"""What pruning modifiers share: parameters and targets, masks that are held, and sparsity that grows with the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from sparseml.modifiers.base import Clock, Modifier, Run, interpolate, whole_cycles
from sparseml.modifiers.mask_shapes import Group, MaskShape, choose_masks, parse_mask_type
from sparseml.modifiers.masks import Masks
from sparseml.modifiers.select import Selector, as_list, may_share, select_parameters, transposed_weights

if TYPE_CHECKING:
    import torch

    from sparseml.modifiers.resized import Resized

FROM_PARAM = "__FROM_PARAM__"

Sparsity = Annotated[float, Field(gt=0, lt=1)]
"""A share of zeros to prune to: neither none nor all."""


class MaskedModifier(Modifier):
    """Holds masks of parameters: masked weights stay exactly zero from its start to its end."""

    label = "masks"

    chooses_masks: ClassVar[bool] = False
    """Whether it decides what is pruned; otherwise it holds the zeros that there are."""

    hooks_gradients: ClassVar[bool] = True
    """Whether gradients of pruned weights are zeroed as they are computed; see `Masks.hold`."""

    whole_units: ClassVar[bool] = False
    """Whether it prunes whole units, beside another modifier's masks of weights: it judges of conflicts itself."""

    params: Selector = Field(description="which parameters: names, re: patterns, __ALL__, __ALL_PRUNABLE__")

    _masks: Masks = PrivateAttr(default_factory=Masks)
    _holds: int = PrivateAttr(0)

    @property
    def mask_updates(self) -> int:
        """How often masks were put in place in this process: a number that changes when they may have changed."""
        return self._holds

    def entries(self) -> list[str]:
        """All that the recipe names as parameters."""
        return self.params

    def parameters(self, run: Run) -> dict[str, torch.nn.Parameter]:
        """The parameters that the recipe names, in the model's order.

        Raises:
            ModifierError: an entry matches nothing.
        """
        return select_parameters(run.model, self.entries(), self.name)

    def hold(self, run: Run) -> None:
        """Hold the masks as they are now, in place of those held before."""
        self._masks.hold(self.parameters(run), self.name, self.hooks_gradients)
        self._holds += 1

    def after_step(self, run: Run) -> None:
        self._masks.apply()

    def on_end(self, run: Run) -> None:
        self._masks.release()

    def follow(self, run: Run, resized: Resized) -> None:
        held = self._masks.held
        self._masks.follow(resized)
        if held:
            self.hold(run)

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        return self._masks.state()

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        self._masks.load_state(state)

    def conflicts_with(self, other: Modifier) -> str | None:
        if not isinstance(other, MaskedModifier) or not (self.chooses_masks or other.chooses_masks):
            return None
        if other.whole_units and not self.whole_units:
            return None
        if not self.overlaps(other) or not may_share(self.entries(), other.entries()):
            return None
        return (
            f"{self.name} and {other.name} in line {other.place[1]} both hold masks of the same parameters at the "
            "same time: keep one, or let one end where the other begins (a pruning with leave_enabled, the "
            "default, holds its masks to the end of the training)."
        )


class PruningModifier(MaskedModifier):
    """Prunes parameters to a sparsity: which, how much, and in what shape."""

    label = "pruning"
    chooses_masks = True

    params: Annotated[list[str], BeforeValidator(as_list)] = Field(
        [], description="which parameters: names, re: patterns, __ALL__, __ALL_PRUNABLE__"
    )
    final_sparsity: Sparsity | dict[Sparsity, Selector] = Field(
        description="share of zeros at the end; or {share: [parameters], ...} in place of params"
    )
    mask_type: str | list[int] = Field(
        "unstructured",
        description="unstructured, block4 (4 inputs), [r, c] (r outputs by c inputs; -1: all), or N:M (N of M stay)",
    )

    _sparsity: float | None = PrivateAttr(None)

    @field_validator("mask_type")
    @classmethod
    def _mask_type_is_known(cls, value: str | list[int]) -> str | list[int]:
        parse_mask_type(value)
        return value

    @model_validator(mode="after")
    def _targets_fit(self) -> PruningModifier:
        by_parameter = isinstance(self.final_sparsity, dict)
        if by_parameter and (self.params or not self.final_sparsity):
            raise ValueError("final_sparsity names parameters itself: leave params out, or give it []")
        if not by_parameter and not self.params:
            raise ValueError("params must be given, such as __ALL_PRUNABLE__")
        for target in self.targets():
            if self.shape.of and self.shape.share(target) != self.shape.most:
                raise ValueError(
                    f"mask_type {self.mask_type} makes a sparsity of {self.shape.most:g}, but final_sparsity is "
                    f"{target:g}"
                )
        return self

    @property
    def shape(self) -> MaskShape:
        """The parsed `mask_type`."""
        return parse_mask_type(self.mask_type)

    @property
    def one_threshold(self) -> bool:
        """Whether all parameters with one target are ranked together (global pruning)."""
        return False

    @property
    def shown(self) -> str:
        """Its label, with the sparsity once there is one."""
        label = super().shown
        return f"{label} {self._sparsity:.1%}" if label and self._sparsity is not None else label

    def entries(self) -> list[str]:
        if isinstance(self.final_sparsity, dict):
            return [entry for entries in self.final_sparsity.values() for entry in entries]
        return self.params

    def targets(self) -> list[float]:
        """The sparsities to reach."""
        return list(self.final_sparsity) if isinstance(self.final_sparsity, dict) else [self.final_sparsity]

    def structure(self, run: Run) -> None:
        """Check that the parameters exist and that the mask's shape fits them."""
        transposed = self.transposed(run)
        for name, parameter in self.parameters(run).items():
            sides = parameter.shape[::-1] if name in transposed else parameter.shape
            self.shape.check(name, sides, self.name)

    def transposed(self, run: Run) -> frozenset[str]:
        """The names of the parameters that are [inputs, outputs]."""
        return transposed_weights(run.model, self.parameters(run))

    def ranked(self, run: Run, entries: list[str]) -> list[str]:
        """The names of what is ranked and pruned of the parameters that `entries` name."""
        return list(select_parameters(run.model, entries, self.name))

    def final_groups(self, run: Run) -> list[Group]:
        """The parameters and what each is pruned to in the end; of several targets for one the first counts."""
        if not isinstance(self.final_sparsity, dict):
            named = [(self.final_sparsity, self.ranked(run, self.entries()))]
        else:
            named, seen = [], set[str]()
            for target, entries in self.final_sparsity.items():
                names = [name for name in self.ranked(run, entries) if name not in seen]
                seen.update(names)
                named.append((target, names))
        if self.one_threshold:
            return [Group(tuple(names), self.shape.share(target)) for target, names in named if names]
        return [Group((name,), self.shape.share(target)) for target, names in named for name in names]

    def set_masks(self, run: Run, pruned: dict[str, torch.Tensor]) -> None:
        """Hold new masks; the optimizer's moments of what they newly prune are zeroed.

        Args:
            run: the run.
            pruned: by parameter name, True where pruned.
        """
        before, self._masks.pruned = self._masks.pruned, pruned
        parameters = self.parameters(run)
        for name, mask in pruned.items() if run.optimizer is not None else ():
            newly = mask & ~before[name].to(mask.device) if name in before else mask
            _forget(run.optimizer, parameters[name], newly)
        self.hold(run)
        total = sum(mask.numel() for mask in pruned.values())
        self._sparsity = sum(int(mask.sum()) for mask in pruned.values()) / max(total, 1)


class GradualPruningModifier(PruningModifier):
    """Prunes from `init_sparsity` to `final_sparsity` in updates between its start and its end.

    To add an algorithm: `scores`; where masks are not simply those of the smallest scores, `prune_to`.

    The masks are updated after the optimizer step that precedes an update's step, so that a checkpoint of
    the end's step has the final sparsity.
    """

    may_return: ClassVar[bool] = False
    """Whether pruned weights may become free again in a later update."""

    init_sparsity: Annotated[float, Field(ge=0, lt=1)] | Literal["__FROM_PARAM__"] = Field(
        description="share of zeros at the start; __FROM_PARAM__: as each parameter has"
    )
    update_frequency: float | None = Field(
        None, description="epochs between two updates of the masks; -1: every step"
    )
    update_steps: int | None = Field(None, ge=1, description="in place of update_frequency: optimizer steps")
    inter_func: Literal["linear", "cubic", "inverse_cubic", "cosine"] = Field(
        "cubic", description="the curve from init_sparsity to final_sparsity"
    )
    leave_enabled: bool = Field(True, description="whether the masks are held after the end, too")

    _initial: dict[str, float] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _schedule_is_whole(self) -> GradualPruningModifier:
        if self.end_epoch < 0 and self.end_step is None:
            raise ValueError("end_epoch (or end_step) must be given: from there on the sparsity is final")
        in_steps = self.end_step is not None
        start, end = (
            (self.start_step, self.end_step) if in_steps else (max(self.start_epoch, 0), self.end_epoch)
        )
        if not self.leave_enabled and start == end:
            raise ValueError("end_epoch must lie after start_epoch where leave_enabled is false")
        if (self.update_frequency is None) == (self.update_steps is None):
            raise ValueError("give either update_frequency (epochs between updates) or update_steps")
        if self.update_frequency is not None and self.update_frequency != -1 and self.update_frequency <= 0:
            raise ValueError(
                f"update_frequency is {self.update_frequency:g}: give epochs above 0, or -1 for every step"
            )
        if not isinstance(self.init_sparsity, str):
            for target in self.targets():
                if target < self.init_sparsity:
                    raise ValueError(
                        f"init_sparsity {self.init_sparsity:g} lies above final_sparsity {target:g}"
                    )
        return self

    # The schedule, as pure functions of the step.

    def final_step(self, clock: Clock) -> int:
        """The step from which the sparsity is final."""
        return int(super().last_step(clock))

    def last_step(self, clock: Clock) -> float:
        """The end of its span: none where the masks are held to the end of the training."""
        return math.inf if self.leave_enabled else super().last_step(clock)

    def is_update(self, step: int, clock: Clock) -> bool:
        """Whether the masks are updated before the forward pass of `step`."""
        first, final = self.first_step(clock), self.final_step(clock)
        if not first < step < final:
            return step in (first, final)
        interval = self._interval(clock)
        return whole_cycles(step - first, interval) != whole_cycles(step - 1 - first, interval)

    def sparsity_at(self, step: int, clock: Clock, initial: float, final: float) -> float:
        """The target of an update at `step`, on the curve from `initial` to `final`."""
        first, last = self.first_step(clock), self.final_step(clock)
        if step >= last:
            return final
        return interpolate(self.inter_func, max(step - first, 0) / (last - first), initial, final)

    def final_from(self, clock: Clock) -> float:
        return self.final_step(clock) - 1

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        """The sparsity at its start, at every epoch, and at its end."""
        first, final = self.first_step(clock), self.final_step(clock)
        goal = f"pruned to {self._targets_in_words(final, clock)}"
        events = [(float(final), goal)]
        if first < final:
            events.append((first, f"{goal} by epoch {clock.epoch(final):g}"))
        if not isinstance(self.init_sparsity, str):
            epochs = range(math.floor(clock.epoch(first)) + 1, math.ceil(clock.epoch(final)))
            steps = [first, *map(clock.step, epochs)] if first < final else []
            events += [(step, f"now {self._targets_in_words(step, clock)}") for step in steps]
        return events

    def _targets_in_words(self, step: int, clock: Clock) -> str:
        """The sparsity of the last update up to a step."""
        first, interval = self.first_step(clock), self._interval(clock)
        if step < self.final_step(clock):
            step = first + math.ceil(whole_cycles(step - first, interval) * interval)
        initial = 0.0 if isinstance(self.init_sparsity, str) else self.init_sparsity
        shares = [self.sparsity_at(step, clock, initial, target) for target in self.targets()]
        return " and ".join(f"{share:.1%}" for share in dict.fromkeys(shares))

    def _interval(self, clock: Clock) -> float:
        """Steps between two updates, which may be fractional."""
        return float(self.update_steps or max((self.update_frequency or 0) * clock.steps_per_epoch, 1))

    # The updates.

    def scores(self, run: Run, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
        """A score for each weight, by parameter name; the smallest are pruned. Called at every update."""
        raise NotImplementedError

    def prune_to(self, run: Run, groups: list[Group]) -> None:
        """Update the masks.

        Args:
            run: the run.
            groups: the parameters, and the sparsity that each group has from now on.
        """
        keep = None if self.may_return else self._masks.pruned
        scores = self.scores(run, self.parameters(run))
        self.set_masks(run, choose_masks(scores, groups, self.shape, keep, self.transposed(run)))

    def on_start(self, run: Run) -> None:
        """Prune to the sparsity of the start (in one shot, to the final one), or hold the resumed run's masks."""
        if run.one_shot:
            self.prune_to(run, self.final_groups(run))
        elif run.step == self.first_step(run.clock):
            self._masks.pruned = {}
            self._initial = self._shares_of_zeros(run) if self.init_sparsity == FROM_PARAM else {}
            self.prune_to(run, self._groups_at(run, run.step))
        else:
            self.hold(run)

    def after_step(self, run: Run) -> None:
        """Mask the weights again; update the masks for the following step."""
        super().after_step(run)
        if self.is_update(run.step + 1, run.clock):
            self.prune_to(run, self._groups_at(run, run.step + 1))

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        import torch

        initial = {
            f"{name}.initial": torch.tensor(share, dtype=torch.float64)
            for name, share in self._initial.items()
        }
        return super().state(run) | initial

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        super().load_state(state, run)
        self._initial = {
            key.removesuffix(".initial"): float(value)
            for key, value in state.items()
            if key.endswith(".initial")
        }

    def follow(self, run: Run, resized: Resized) -> None:
        self._initial = resized.renamed(self._initial)
        super().follow(run, resized)

    def _groups_at(self, run: Run, step: int) -> list[Group]:
        return [
            Group(
                group.names,
                # What is sparser at the start than it is to become stays so.
                self.sparsity_at(step, run.clock, initial, max(group.sparsity, initial)),
            )
            for group in self.final_groups(run)
            for initial in [self._initial_of(run, group)]
        ]

    def _initial_of(self, run: Run, group: Group) -> float:
        if not isinstance(self.init_sparsity, str):
            return self.init_sparsity
        sizes = self._sizes(run, group)
        zeros = sum(self._initial[name] * size for name, size in sizes.items())
        return zeros / max(sum(sizes.values()), 1)

    def _sizes(self, run: Run, group: Group) -> dict[str, int]:
        """How much of each of a group's names there is to prune."""
        return {name: run.model.get_parameter(name).numel() for name in group.names}

    def _shares_of_zeros(self, run: Run) -> dict[str, float]:
        return {
            name: 1 - int(parameter.detach().count_nonzero()) / max(parameter.numel(), 1)
            for name, parameter in self.parameters(run).items()
        }


def _forget(optimizer: Any, parameter: torch.nn.Parameter, pruned: torch.Tensor) -> None:
    """Zero the optimizer's moments of pruned weights: they would move a weight that becomes free again."""
    import torch

    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
            value.masked_fill_(pruned.to(value.device), 0)
