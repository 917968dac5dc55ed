"""A recipe's modifiers merged into one schedule, and the conflicts that this brings to light."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparseml.modifiers.base import NOMINAL, Clock, Modifier
from sparseml.recipe import RecipeError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One epoch, or part of one, as it is printed.

    Attributes:
        start, end: epochs.
        rates: learning rate at the start and the end; None where the recipe leaves it to the command line.
        active: labels of the modifiers at work.
        events: what begins or ends at the start of the row.
    """

    start: float
    end: float
    rates: tuple[float, float] | None
    active: tuple[str, ...]
    events: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """What a whole recipe does, and when.

    Attributes:
        modifiers: in the recipe's order.
        epochs: length of the run; None when the recipe leaves it to the command line.
        steps: length in optimizer steps, for recipes that are written in steps.
    """

    modifiers: tuple[Modifier, ...]
    epochs: float | None
    steps: int | None

    def rate(self, step: int, clock: Clock, group: int = 0) -> float | None:
        """The learning rate of a parameter group at a step, or None where the recipe does not say.

        The modifier that began last sets it; after its end, the rate that it ended with stays.
        """
        current, begun = None, -1
        for modifier in self.modifiers:
            first = modifier.first_step(clock)
            if modifier.sets_rate and begun <= first <= step:
                rate = modifier.rate(step, clock, group)
                if rate is not None:
                    current, begun = rate, first
        return current

    @property
    def owns_rate(self) -> bool:
        """Whether the recipe says the learning rate at all."""
        return any(modifier.sets_rate for modifier in self.modifiers)

    def rows(self, epochs: float | None = None, clock: Clock | None = None) -> list[Row]:
        """The schedule epoch by epoch, on the run's own `clock` where it is known.

        `epochs` is the length of the run where the recipe does not say it; else one epoch is shown.
        """
        clock = clock or NOMINAL
        length = self.epochs or (clock.epoch(self.steps) if self.steps else None) or epochs or 1.0
        # In steps, so that what falls on the same step shares a row, however its epoch was written.
        edges: set[float] = {clock.step(epoch) for epoch in range(math.ceil(length))}
        for modifier in self.modifiers:
            edges |= {modifier.first_step(clock), modifier.last_step(clock)}
            edges |= {step for step, _ in modifier.events(clock)}
        last = max(clock.step(length), 1)
        inside = [*sorted(edge for edge in edges if 0 <= edge < last), last]
        return [self._row(int(start), int(end), clock) for start, end in itertools.pairwise(inside)]

    def table(self, epochs: float | None = None, clock: Clock | None = None) -> Table:
        """`rows` as a table to print."""
        from resparse.console import aligned

        cells = (
            (
                f"{row.start:g} to {row.end:g}",
                f"{row.rates[0]:.2e} to {row.rates[1]:.2e}" if row.rates else "as given",
                ", ".join(row.active) or "-",
                "; ".join(row.events),
            )
            for row in self.rows(epochs, clock)
        )
        return aligned(cells, ("epochs", "learning rate", "at work", "what changes"), left=(0, 2, 3))

    def _row(self, start: int, end: int, clock: Clock) -> Row:
        begin, finish = self.rate(start, clock), self.rate(end - 1, clock)
        events = []
        for modifier in self.modifiers:
            if modifier.shown and 0 < start == modifier.first_step(clock):
                events.append(f"{modifier.shown} begins")
            if modifier.shown and start == modifier.last_step(clock):
                events.append(f"{modifier.shown} ends")
            events += [text for step, text in modifier.events(clock) if step == start]
        return Row(
            clock.epoch(start),
            clock.epoch(end),
            None if begin is None or finish is None else (begin, finish),
            tuple(
                modifier.shown
                for modifier in self.modifiers
                if modifier.shown and modifier.active(start, clock)
            ),
            tuple(events),
        )


def merge(modifiers: Sequence[Modifier]) -> Schedule:
    """Merge modifiers into one schedule.

    Raises:
        RecipeError: two modifiers contradict each other; the message names both and their lines.
    """
    # An end of -1 leaves the length to the others, and to the arguments.
    ranges = [each for each in modifiers if each.sets_length and (each.end_epoch > 0 or each.end_step)]
    steps = max((modifier.end_step or 0 for modifier in modifiers), default=0) or None
    schedule = Schedule(tuple(modifiers), _epochs(modifiers, ranges), steps)
    if ranges:
        longest = max(ranges, key=lambda modifier: (modifier.end_epoch, modifier.end_step or 0))
        for modifier in modifiers:
            _refuse_outside(modifier, longest)
    for earlier, later in itertools.combinations(modifiers, 2):
        _refuse_contradiction(earlier, later)
    return schedule


def _epochs(modifiers: Sequence[Modifier], ranges: Sequence[Modifier]) -> float | None:
    """The EpochRange's length; without one, the last epoch at which something that sets it begins or ends."""
    edges = [modifier.end_epoch for modifier in ranges] or [
        edge for modifier in modifiers for edge in (modifier.start_epoch, modifier.end_epoch)
    ]
    longest = max(edges, default=-1)
    return longest if longest > 0 else None


def _refuse_outside(modifier: Modifier, whole: Modifier) -> None:
    """Compares epochs with epochs and steps with steps: how many steps an epoch has is not known yet."""
    for unit, start, end, length in (
        ("epoch", modifier.start_epoch, modifier.end_epoch, whole.end_epoch),
        ("step", modifier.start_step, modifier.end_step, whole.end_step),
    ):
        if length is None or length < 0:
            continue
        if start is not None and start >= length:
            found, remedy = f"begins at {unit} {start:g}", "begin earlier"
        elif end is not None and end > length:
            found, remedy = f"runs to {unit} {end:g}", "end with the training"
        else:
            continue
        raise RecipeError(
            f"{modifier.name} {found}, but training ends at {unit} {length:g} ({whole.name} in line "
            f"{whole.place[1]}): let it {remedy}, or let training last longer.",
            *modifier.place,
        )


def _refuse_contradiction(earlier: Modifier, later: Modifier) -> None:
    """Ask both, the one that stands later in the recipe first: an error names the line to change."""
    if earlier.stage != later.stage:
        return  # a saved recipe of two trainings, one after the other: what has no end ended with its training
    for modifier, other in ((later, earlier), (earlier, later)):
        if (reason := modifier.conflicts_with(other)) is not None:
            raise RecipeError(reason, *modifier.place)
