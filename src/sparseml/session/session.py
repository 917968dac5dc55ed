"""The session of a recipe on a model: calls its modifiers at the right steps of any training loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from resparse.progress import track
from sparseml.modifiers import Clock, Modifier, ModifierError, Run, build
from sparseml.modifiers.base import NOMINAL, Outputs
from sparseml.modifiers.schedule import merge
from sparseml.recipe.plan import Plan

if TYPE_CHECKING:
    import torch

    from sparseml.modifiers.resized import Resized


class Session:
    """The modifiers of one recipe on one model.

    Args:
        plan: the evaluated recipe.
        model: a Transformers model with its weights loaded; its modules are put in place (`Modifier.structure`).
        allow_dense_start: accept a transfer recipe on weights that are not sparse.

    Raises:
        RecipeError, ModifierError: the recipe cannot be carried out on this model.
    """

    def __init__(self, plan: Plan, model: torch.nn.Module, allow_dense_start: bool = False) -> None:
        self.plan = plan
        self.modifiers = build(plan)
        self.schedule = merge(self.modifiers)
        self.run = Run(model, Clock(1, 0), allow_dense_start=allow_dense_start)
        self.run.resized = self._follow
        self.resized: Callable[[], None] | None = None
        """Called after parameters were replaced by smaller ones, such as by who holds a wrapper of the model."""
        self._begun: set[int] = set()
        for modifier in self.modifiers:
            modifier.structure(self.run)

    @property
    def needs_teacher(self) -> bool:
        return any(modifier.needs_teacher for modifier in self.modifiers)

    @property
    def needs_teacher_model(self) -> bool:
        """Whether the teacher must run on every batch: its outputs computed beforehand do not suffice."""
        return any(modifier.needs_teacher_model and not modifier.rests for modifier in self.modifiers)

    def rest_without_teacher_model(self) -> bool:
        """Let the modifiers rest that need the teacher to run on every batch; False where one of them must not."""
        live = [modifier for modifier in self.modifiers if modifier.needs_teacher_model]
        if not all(modifier.may_rest for modifier in live):
            return False
        for modifier in live:
            modifier.rest()
        return True

    @property
    def compares_outputs(self) -> bool:
        """Whether a teacher's outputs are learned from, and not its hidden states alone."""
        return any(modifier.needs_teacher and not modifier.needs_teacher_model for modifier in self.modifiers)

    def rest_without_teacher(self) -> None:
        """Mark the modifiers that need a teacher as having nothing to do, as there is none."""
        for modifier in self.modifiers:
            if modifier.needs_teacher:
                modifier.rest()

    @property
    def at_work(self) -> list[Modifier]:
        """The modifiers that have begun and not ended, in the recipe's order."""
        return [self.modifiers[index] for index in sorted(self._begun)]

    def begin(
        self,
        clock: Clock,
        step: int,
        optimizer: torch.optim.Optimizer | None,
        decayed: frozenset[int] = frozenset(),
    ) -> None:
        """Training begins at `step`, or is resumed there; starts every modifier whose span contains it.

        May be called again after a finished training.
        """
        self.finish()
        self.run.clock, self.run.optimizer, self.run.decayed = clock, optimizer, decayed
        self._start(step)

    def before_step(self, step: int) -> None:
        self._start(step)
        for modifier in self.at_work:
            modifier.before_step(self.run)

    def mix_loss(self, loss: torch.Tensor, outputs: Outputs, teacher_outputs: Outputs) -> torch.Tensor:
        for modifier in self.at_work:
            loss = modifier.mix_loss(self.run, loss, outputs, teacher_outputs)
        return loss

    def after_backward(self) -> None:
        for modifier in self.at_work:
            modifier.after_backward(self.run)

    def before_optimizer_step(self) -> None:
        for modifier in self.at_work:
            modifier.before_optimizer_step(self.run)

    def after_step(self) -> None:
        following = self.run.step + 1
        for index in sorted(self._begun):
            modifier = self.modifiers[index]
            modifier.after_step(self.run)
            if following >= modifier.last_step(self.run.clock):
                self._begun.discard(index)
                modifier.on_end(self.run)
        self.run.step = following

    def apply_once(self) -> None:
        """Apply the recipe once, in place of training: its modifiers with `one_shot` calibrate and start.

        Raises:
            ModifierError: one needs batches, and `run.batches` is None.
        """
        self.run.one_shot = True
        for index in self._in_order_of_start(NOMINAL):
            modifier = self.modifiers[index]
            if modifier.one_shot:
                self._calibrate(modifier)
                modifier.on_start(self.run)

    def finish(self) -> None:
        """The training ends: modifiers release their hooks."""
        for modifier in self.at_work:
            modifier.on_end(self.run)
        self._begun.clear()

    def final_from(self) -> float:
        """The step up to which the model is not yet what the recipe makes: no checkpoint of it is the best one."""
        return max((modifier.final_from(self.run.clock) for modifier in self.modifiers), default=0)

    def labels(self) -> list[str]:
        """Labels of the modifiers at work, for the progress bar."""
        return [modifier.shown for modifier in self.at_work if modifier.shown]

    def state(self, place: int = 0) -> dict[str, torch.Tensor]:
        """All modifiers' states in one dictionary; a key begins with the modifier's index in the recipe saved with it.

        `place` is the index of the first one there, where an earlier recipe's modifiers come first.
        """
        return {
            f"{start}{key}": value
            for start, modifier in self._places(place)
            for key, value in modifier.state(self.run).items()
        }

    def load_state(self, state: Mapping[str, torch.Tensor], place: int = 0) -> None:
        """Load what `state` returned, under the same recipe."""
        for start, modifier in sorted(self._places(place), key=lambda entry: entry[1].loads):
            own = without_prefix(state, start)
            if own or modifier.state(self.run):
                modifier.load_state(own, self.run)

    def _follow(self, resized: Resized) -> None:
        for modifier in self.modifiers:
            modifier.follow(self.run, resized)
        if self.resized is not None:
            self.resized()

    def _start(self, step: int) -> None:
        """Start the modifiers whose span contains this step; those whose first step it is calibrate before."""
        self.run.step = step
        for index in self._in_order_of_start(self.run.clock):
            modifier = self.modifiers[index]
            if index in self._begun or not modifier.active(step, self.run.clock):
                continue
            if step == modifier.first_step(self.run.clock):
                self._calibrate(modifier)
            self._begun.add(index)
            modifier.on_start(self.run)

    def _in_order_of_start(self, clock: Clock) -> list[int]:
        """Indices by start: a resumed run starts all at once, and what began later must win there too.

        Of those that start together, what reads the final weights comes last; the others in the recipe's order.
        """
        starts = [(modifier.first_step(clock), modifier.starts_last) for modifier in self.modifiers]
        return sorted(range(len(starts)), key=starts.__getitem__)

    def _calibrate(self, modifier: Modifier) -> None:
        wanted = modifier.calibration_batches(self.run)
        if not wanted:
            return
        if self.run.batches is None:
            raise ModifierError(
                f"{modifier.name} needs {wanted} batches of training data before it starts, but there are none: "
                "give it some, such as with --train_file."
            )
        modifier.calibrate(self.run, track(list(itertools.islice(self.run.batches(), wanted)), "calibrating"))

    def _places(self, place: int) -> list[tuple[str, Modifier]]:
        return [
            (state_prefix(place + index, type(modifier)), modifier)
            for index, modifier in enumerate(self.modifiers)
        ]


def state_prefix(place: int, kind: type[Modifier]) -> str:
    """What the keys of a modifier's state begin with in a checkpoint."""
    return f"{place}.{kind.__name__}:"


def without_prefix(state: Mapping[str, torch.Tensor], start: str) -> dict[str, torch.Tensor]:
    """The entries of a state whose keys begin with `start`, without that."""
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
