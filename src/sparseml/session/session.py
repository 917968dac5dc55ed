"""A recipe at work on a model: calls its modifiers at the right steps, whatever loop drives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from sparseml.modifiers import Clock, Modifier, Run, build
from sparseml.modifiers.quantization import QuantizationModifier
from sparseml.modifiers.schedule import merge
from sparseml.recipe.plan import Plan

if TYPE_CHECKING:
    import torch

Kind = TypeVar("Kind", bound=Modifier)


class Session:
    """The modifiers of one recipe on one model.

    Args:
        plan: the evaluated recipe.
        model: a Transformers model with its weights loaded; modules are put in place here (`structure`).
        allow_dense_start: accept a transfer recipe on weights that are not sparse.

    Raises:
        RecipeError, ModifierError: the recipe cannot be carried out on this model.
    """

    def __init__(self, plan: Plan, model: torch.nn.Module, allow_dense_start: bool = False) -> None:
        self.plan = plan
        self.modifiers = build(plan)
        self.schedule = merge(self.modifiers)
        self.run = Run(model, Clock(1, 0), allow_dense_start=allow_dense_start)
        self._begun: set[int] = set()
        for modifier in self.modifiers:
            modifier.structure(self.run)

    def begin(
        self,
        clock: Clock,
        step: int,
        optimizer: torch.optim.Optimizer | None,
        decayed: frozenset[int] = frozenset(),
    ) -> None:
        """Training begins at `step`, or continues there; starts every modifier whose span it lies in.

        Called again after a finished training it starts over.
        """
        self.finish()
        self.run.clock, self.run.optimizer, self.run.decayed = clock, optimizer, decayed
        self.before_step(step)

    def before_step(self, step: int) -> None:
        """Before the forward pass of a step."""
        self.run.step = step
        # By their beginnings: a resumed run starts them all at once, and what began later must win there too.
        for index, modifier in sorted(
            enumerate(self.modifiers), key=lambda entry: entry[1].first_step(self.run.clock)
        ):
            if not modifier.active(step, self.run.clock):
                continue
            if index not in self._begun:
                self._begun.add(index)
                modifier.on_start(self.run)
            modifier.before_step(self.run)

    def after_step(self) -> None:
        """After the optimizer's step."""
        following = self.run.step + 1
        for index, modifier in enumerate(self.modifiers):
            if index not in self._begun:
                continue
            modifier.after_step(self.run)
            if following >= modifier.last_step(self.run.clock):
                self._begun.discard(index)
                modifier.on_end(self.run)
        self.run.step = following

    def apply_once(self, calibrate: Callable[[], None]) -> None:
        """In place of training: every modifier leaves the mark that it can leave without.

        Args:
            calibrate: shows the model a few batches, from which activation ranges are taken.
        """
        chosen = [modifier for modifier in self.modifiers if modifier.one_shot]
        for modifier in chosen:
            modifier.on_start(self.run)
        if any(isinstance(modifier, QuantizationModifier) for modifier in chosen):
            from sparseml.quantization.structure import calibrating

            with calibrating(self.run.model):
                calibrate()

    def finish(self) -> None:
        """The training ends; modifiers let go of the model."""
        for index in sorted(self._begun):
            self.modifiers[index].on_end(self.run)
        self._begun.clear()

    def active(self, kind: type[Kind]) -> Kind | None:
        """The modifier of a class that is at work now, if any."""
        for index in self._begun:
            modifier = self.modifiers[index]
            if isinstance(modifier, kind):
                return modifier
        return None

    def labels(self) -> list[str]:
        """Words for what is at work now, for the progress bar."""
        return [self.modifiers[index].shown for index in sorted(self._begun) if self.modifiers[index].shown]

    def state(self, place: int = 0) -> dict[str, torch.Tensor]:
        """All modifiers' states in one dictionary.

        Args:
            place: of the first modifier in the recipe that is saved with the state, where others stand before it.

        Returns:
            Tensors; the keys begin with the modifier's place in that recipe.
        """
        return {
            f"{start}{key}": value
            for start, modifier in self._places(place)
            for key, value in modifier.state(self.run).items()
        }

    def load_state(self, state: Mapping[str, torch.Tensor], place: int = 0) -> None:
        """Take back what `state` gave, under the same recipe."""
        for start, modifier in self._places(place):
            own = part(state, start)
            if own or modifier.state(self.run):
                modifier.load_state(own, self.run)

    def _places(self, place: int) -> list[tuple[str, Modifier]]:
        return [
            (prefix(place + index, type(modifier)), modifier) for index, modifier in enumerate(self.modifiers)
        ]


def prefix(place: int, kind: type[Modifier]) -> str:
    """What the keys of a modifier's state begin with."""
    return f"{place}.{kind.__name__}:"


def part(state: Mapping[str, torch.Tensor], start: str) -> dict[str, torch.Tensor]:
    """The entries of a state whose keys begin with `start`, without that."""
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
