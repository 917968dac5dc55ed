"""What a modifier is, and when it is called: the whole training loop on one page.

A recipe's modifiers meet the loop in these places, marked with the method that is called:

    for modifier in modifiers:
        modifier.structure(run)              # modules are put in place, before weights and scales load
    load the weights; on resume, modifier.load_state(...)
    for step in range(run.total_steps):
        lr = schedule's learning rate at step            # modifiers/learning_rate.py, a pure function
        if step == modifier's first step:
            modifier.on_start(run)           # also on resume, when the step lies inside its span
        loss = model(batch)                  # distillation mixes the teacher's answer in here
        loss.backward()                      # tensor hooks set by on_start act here (masks)
        clip the gradients
        optimizer.step()
        modifier.after_step(run)             # while it is active
        if step + 1 == modifier's end step:
            modifier.on_end(run)
    modifier.state() goes into every checkpoint

A modifier knows the model and the optimizer, never the Trainer. It is a pydantic model: its public
fields are what the recipe may say. Its mathematics is a pure function in the same file.

To add one: a file with a subclass of `Modifier`, and a line in `registry.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from resparse.errors import UserError

if TYPE_CHECKING:
    import torch

Epoch = Annotated[float, Field(ge=-1, allow_inf_nan=False)]


class ModifierError(UserError):
    """A modifier cannot do what the recipe asks of it, on this model or at this point."""


@dataclass(frozen=True)
class Clock:
    """Translates a recipe's epochs into optimizer steps.

    Attributes:
        steps_per_epoch: optimizer steps in one epoch, at least 1.
        total_steps: optimizer steps of the whole run.
    """

    steps_per_epoch: int
    total_steps: int

    def step(self, epoch: float) -> int:
        """The optimizer step at which `epoch` (which may be fractional) begins."""
        return round(epoch * self.steps_per_epoch)

    def epoch(self, step: float) -> float:
        """How many epochs have passed before `step`."""
        return step / self.steps_per_epoch


@dataclass
class Run:
    """What a modifier may see and touch.

    Attributes:
        model: the student, unwrapped.
        clock: epochs to steps.
        step: optimizer steps done so far.
        optimizer: there from `on_start` on.
        decayed: ids of the parameters that weight decay is meant for (no biases, no norms).
        allow_dense_start: accept a transfer recipe on weights that are not sparse.
        notes: lines for the user, said once by whoever drives the run.
    """

    model: torch.nn.Module
    clock: Clock
    step: int = 0
    optimizer: torch.optim.Optimizer | None = None
    decayed: frozenset[int] = frozenset()
    allow_dense_start: bool = False
    notes: list[str] = field(default_factory=list)


class Modifier(BaseModel):
    """The span of a modifier and the methods that the loop calls; see the module's docstring.

    Epochs may be fractional; -1 means from the first step and to the last. `start_step` and
    `end_step` say the same in optimizer steps.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    label: ClassVar[str] = ""
    """A word for the progress bar and the schedule; empty for those that only set numbers."""

    one_shot: ClassVar[bool] = False
    """Whether `on_start` alone, without training, leaves its mark on the model."""

    start_epoch: Epoch = Field(-1, description="epoch at which it begins; -1: from the start")
    end_epoch: Epoch = Field(-1, description="epoch at which it ends; -1: never")
    start_step: int | None = Field(None, ge=0, description="in place of start_epoch: the optimizer step")
    end_step: int | None = Field(None, ge=0, description="in place of end_epoch: the optimizer step")

    _source: str = PrivateAttr("recipe")
    _line: int | None = PrivateAttr(None)
    _tag: str = PrivateAttr("")
    _stage: str | None = PrivateAttr(None)
    _idle: bool = PrivateAttr(False)

    @model_validator(mode="after")
    def _span_is_whole(self) -> Modifier:
        given = self.model_fields_set
        for edge in ("start", "end"):
            if {f"{edge}_epoch", f"{edge}_step"} <= given and getattr(self, f"{edge}_step") is not None:
                raise ValueError(f"{edge}_epoch and {edge}_step say the same thing: give one of them")
        if self.end_epoch >= 0 and self.start_step is None and self.end_epoch < max(self.start_epoch, 0):
            raise ValueError(f"end_epoch {self.end_epoch:g} lies before start_epoch {self.start_epoch:g}")
        if self.end_step is not None and self.start_step is not None and self.end_step < self.start_step:
            raise ValueError(f"end_step {self.end_step} lies before start_step {self.start_step}")
        return self

    @property
    def name(self) -> str:
        """What the recipe calls it."""
        return self._tag or type(self).__name__

    @property
    def place(self) -> tuple[str, int | None]:
        """The recipe and the line that it came from."""
        return self._source, self._line

    @property
    def stage(self) -> str | None:
        """The stage of the recipe that it belongs to."""
        return self._stage

    @property
    def shown(self) -> str:
        """Its label while it has work to do; empty when it has been told that it has none."""
        return "" if self._idle else self.label

    def rest(self) -> None:
        """Tell it that it has nothing to do in this run, such as to distil without a teacher."""
        self._idle = True

    def first_step(self, clock: Clock) -> int:
        """The first optimizer step of its span."""
        return self.start_step if self.start_step is not None else clock.step(max(self.start_epoch, 0))

    def last_step(self, clock: Clock) -> float:
        """The step that ends its span: not part of it; infinite when it never ends."""
        if self.end_step is not None:
            return self.end_step
        return math.inf if self.end_epoch < 0 else clock.step(self.end_epoch)

    def active(self, step: int, clock: Clock) -> bool:
        """Whether `step` lies inside its span."""
        return self.first_step(clock) <= step < self.last_step(clock)

    # The lifecycle, empty here.

    def structure(self, run: Run) -> None:
        """Put modules in place; must leave what the model computes unchanged until `on_start`."""

    def on_start(self, run: Run) -> None:
        """Its span begins, or a resumed run continues inside it."""

    def before_step(self, run: Run) -> None:
        """Before the forward pass of every step in its span."""

    def after_step(self, run: Run) -> None:
        """After the optimizer's step."""

    def on_end(self, run: Run) -> None:
        """Its span, or the training, ends."""

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        """Tensors that a checkpoint must carry to go on as if never stopped."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        """Take back what `state` gave, before `on_start` is called for a resumed run."""

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        """(step, what happens then) beyond the span's own edges, for the printed schedule."""
        return []


def fields_of(modifier: type[Modifier]) -> dict[str, Any]:
    """The fields that a recipe may give a modifier: name to pydantic's field description."""
    return dict(modifier.model_fields)
