"""What a modifier is, and when it is called: the whole life of a recipe on one page.

First a recipe's modifiers are checked against each other and put into the model, whose weights are loaded:

    for modifier, other in all pairs: modifier.conflicts_with(other)      # a text refuses the recipe
    the run lasts as long as the longest modifier with sets_length
    for each modifier: modifier.structure(run)                            # puts modules in place
    needs_teacher, needs_teacher_model: a teacher is loaded; where there is none, modifier.rest(), after which it
    `rests`; where the teacher cannot read the model's batches, those rest that need it to, if each `may_rest`
    on resume: modifier.load_state(state, run), in the order of `loads`, then the checkpoint's weights

The training loop, with the method called at each point. Of the modifiers that begin at one step, those with
`starts_last` come after the others. "At work" means begun and not ended.

    for step in range(run.clock.total_steps):
        for each modifier whose span begins at step, or on resume contains it:
            if it begins: modifier.calibrate(run, batches)     # modifier.calibration_batches(run) of them, if any
            modifier.on_start(run)
        for each at work: modifier.before_step(run)
        learning rate = modifier.rate(step, clock, group)      # of the one with sets_rate that began last
        for each micro-batch:
            loss = model(batch)
            for each at work: loss = modifier.mix_loss(run, loss, outputs, teacher_outputs)
            loss.backward()                                    # hooks on tensors, set by on_start, act here
        for each at work: modifier.after_backward(run)         # gradients complete, not yet clipped
        clip the gradients
        for each at work: modifier.before_optimizer_step(run)
        optimizer.step()
        for each at work: modifier.after_step(run)
        for each whose span ends at step + 1: modifier.on_end(run)
        a checkpoint carries modifier.state(run); it can be the best only after modifier.final_from(clock)

One that makes parameters smaller or removes them (`resizing.py`) does so in on_start or before_step, and then:

    for each modifier: modifier.follow(run, resized)

In place of training (`--one_shot`, `run.one_shot`), for the modifiers with `one_shot`, in the order of their starts:

    modifier.calibrate(run, batches), then modifier.on_start(run)

Loading a model that an earlier recipe made, for those of its modifiers with `restores_modules`:

    modifier.restore(run, state), unless a modifier of the new recipe supersedes(earlier)

The printed schedule shows `label` (`shown`) between first_step(clock) and last_step(clock) where the modifier is
active(step, clock), and modifier.events(clock). `name`, `place` and `stage` say where in the recipe it stands;
overlaps(other) compares spans.

A modifier knows the model and the optimizer, never the Trainer. It is a pydantic model: its public
fields are what the recipe may say. Its mathematics is a pure function in the same file.

To add one: a file with a subclass of `Modifier`, and a line in `registry.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from resparse.errors import UserError

if TYPE_CHECKING:
    import torch

    from sparseml.modifiers.resized import Resized

Epoch = Annotated[float, Field(ge=-1, allow_inf_nan=False)]

Batch = dict[str, "torch.Tensor"]
"""The inputs of a model by name, labels among them where there are any."""

Outputs = Mapping[str, "torch.Tensor"]
"""A model's outputs by name."""

Distance = Callable[[Outputs, Outputs, float, Batch], "torch.Tensor"]
"""From the student's outputs, the teacher's, a temperature and the batch to a scalar loss."""


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


def interpolate(form: str, fraction: float, first: float, last: float) -> float:
    """A value between `first` (fraction 0) and `last` (fraction 1).

    `linear` is a line; `cosine` half a cosine, f -> (1 - cos(pi f)) / 2 (Loshchilov and Hutter 2017,
    arXiv:1608.03983); `cubic` f -> 1 - (1 - f)^3, which begins fast (Zhu and Gupta 2017, arXiv:1710.01878);
    `inverse_cubic` f -> 1 - (1 - f)^(1/3).
    """
    if form == "cosine":
        fraction = (1 - math.cos(math.pi * fraction)) / 2
    elif form == "cubic":
        fraction = 1 - (1 - fraction) ** 3
    elif form == "inverse_cubic":
        fraction = 1 - (1 - fraction) ** (1 / 3)
    return first + (last - first) * fraction


def whole_cycles(steps: float, length: float) -> int:
    """The number of cycles of `length` steps, which may be fractional, that are over after `steps`.

    Pruning updates and restarts of the learning rate both count with it: of equal lengths, they fall on the same steps.
    """
    return int(steps / length + 1e-9)


NOMINAL = Clock(steps_per_epoch=10_000, total_steps=0)
"""For comparing spans before the number of steps is known: fine enough for any fraction of an epoch."""


@dataclass
class Run:
    """What a modifier may see and touch.

    Attributes:
        model: the student, unwrapped.
        clock: epochs to steps.
        step: optimizer steps done so far.
        optimizer: there from `on_start` on; None in one shot.
        decayed: ids of the parameters that weight decay is meant for (no biases, no norms).
        one_shot: the recipe is applied once, in place of a training.
        batches: an iterator over an epoch of training batches on the model's device, the same ones at every call;
            it does not change the global random state nor the order of training rows. Under distributed
            training each process gets its own share. None where there are no training data.
        batch: the one whose loss is being computed, in `mix_loss`; it has the attention mask and the labels.
        teacher: the teacher, in evaluation mode, where it is a model; None where there is none, or where its outputs
            were computed beforehand.
        distance: the task's, for distillation; None where there is no task.
        gradient_scale: the factor on the gradients in `after_backward`: the loss scale under fp16; else 1.
        rank, world_size: this process, and how many there are.
        seed: of the run.
        allow_dense_start: accept a transfer recipe on weights that are not sparse.
        notes: lines for the user, printed once by the caller.
        resized: called by `resizing.py` after parameters have become smaller or are gone; None where nobody follows.
    """

    model: torch.nn.Module
    clock: Clock
    step: int = 0
    optimizer: torch.optim.Optimizer | None = None
    decayed: frozenset[int] = frozenset()
    one_shot: bool = False
    batches: Callable[[], Iterator[Batch]] | None = None
    batch: Batch = field(default_factory=dict)
    teacher: torch.nn.Module | None = None
    distance: Distance | None = None
    gradient_scale: float = 1.0
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    allow_dense_start: bool = False
    notes: list[str] = field(default_factory=list)
    resized: Callable[[Resized], None] | None = None

    def generator(self) -> torch.Generator:
        """A new CPU generator for this step: the same in all processes and in a resumed run."""
        import torch

        return torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)


class Modifier(BaseModel):
    """The span of a modifier and the methods that the loop calls; see the module's docstring.

    Epochs may be fractional; -1 means from the first step and to the last. `start_step` and
    `end_step` say the same in optimizer steps.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    label: ClassVar[str] = ""
    """The name in the progress bar and the schedule; empty for modifiers that only set numbers."""

    one_shot: ClassVar[bool] = False
    """Whether `on_start` alone, without training, changes the model."""

    starts_last: ClassVar[bool] = False
    """Whether it must start after all others of the same step, such as to take the ranges of the final weights."""

    sets_rate: ClassVar[bool] = False
    """Whether `rate` says the learning rate."""

    sets_length: ClassVar[bool] = False
    """Whether its end is the end of the run."""

    needs_teacher: ClassVar[bool] = False
    """Whether it compares the model with a teacher's outputs."""

    needs_teacher_model: ClassVar[bool] = False
    """With `needs_teacher`: whether the teacher must run on every batch (`run.teacher`), such as for its hidden
    states. Otherwise its outputs may be computed once, before the training."""

    loads: ClassVar[int] = 0
    """Where in a resumed run its state is loaded: what changes the shape of the model is below 0, and comes first."""

    restores_modules: ClassVar[bool] = False
    """Whether a model trained with it has modules that a plain loader does not build: see `restore`."""

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
        """Its label; empty after `rest`."""
        return "" if self._idle else self.label

    @property
    def may_rest(self) -> bool:
        """With `needs_teacher_model`: whether it may do nothing where the teacher cannot read the student's batches."""
        return False

    @property
    def rests(self) -> bool:
        """Whether it has nothing to do in this run."""
        return self._idle

    def rest(self) -> None:
        """Mark it as having nothing to do in this run, such as distillation without a teacher."""
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

    def overlaps(self, other: Modifier) -> bool:
        """Whether the two spans share a step."""
        begin = max(self.first_step(NOMINAL), other.first_step(NOMINAL))
        return begin < min(self.last_step(NOMINAL), other.last_step(NOMINAL))

    # Before the training.

    def conflicts_with(self, other: Modifier) -> str | None:
        """Why a recipe cannot have both, in a sentence for the user; None where it can.

        Asked of each modifier about each other one of its stage; where both refuse, the text of the one
        that stands later in the recipe is printed.
        """
        return None

    def structure(self, run: Run) -> None:
        """Put modules in place; must leave what the model computes unchanged until `on_start`."""

    def calibration_batches(self, run: Run) -> int:
        """The number of batches of training data that it needs before it starts."""
        return 0

    def calibrate(self, run: Run, batches: Iterable[Batch]) -> None:
        """Process that many batches, or as many as an epoch has. Not called again on resume."""

    # While training.

    def on_start(self, run: Run) -> None:
        """Its span begins, or a resumed run continues inside it."""

    def before_step(self, run: Run) -> None:
        """Before the forward pass of every step in its span."""

    def rate(self, step: float, clock: Clock, group: int = 0) -> float | None:
        """The learning rate of a parameter group at a step; None where it says none for that group."""
        return None

    def mix_loss(
        self, run: Run, loss: torch.Tensor, outputs: Outputs, teacher_outputs: Outputs
    ) -> torch.Tensor:
        """The loss to train with, a scalar, from the task's or what the modifier before made of it.

        `outputs` are the model's by name, `teacher_outputs` the teacher's by the same names; empty without a teacher.
        """
        return loss

    def after_backward(self, run: Run) -> None:
        """Once an optimizer step: the gradients of all micro-batches are accumulated and not yet clipped."""

    def before_optimizer_step(self, run: Run) -> None:
        """After clipping."""

    def after_step(self, run: Run) -> None:
        """After the optimizer's step."""

    def on_end(self, run: Run) -> None:
        """Its span, or the training, ends."""

    def follow(self, run: Run, resized: Resized) -> None:
        """Parameters have become smaller, have other names or are gone: adapt what is kept of them."""

    def final_from(self, clock: Clock) -> float:
        """The step up to which the model is not yet what the recipe makes; infinite where it is only at the end.

        Checkpoints up to and including that step are no candidates for the best one.
        """
        return 0

    # Checkpoints, and models that an earlier recipe made.

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        """Tensors that a checkpoint must hold for a resumed run to end with the same weights."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        """Load what `state` returned; after that the checkpoint's weights are loaded and `on_start` is called."""

    def restore(self, run: Run, state: Mapping[str, torch.Tensor]) -> None:
        """Put the modules of a finished training into a model that has its weights; `run` holds the model alone.

        `state` is from the end of the training, which may not have reached this modifier.
        """

    def supersedes(self, earlier: Modifier) -> str | None:
        """What to tell the user (after the model's name) where this recipe makes an earlier one's state obsolete.

        That state is then dropped and not restored. None where both hold.
        """
        return None

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        """(step, what happens then) beyond the span's own edges, for the printed schedule."""
        return []


def without_effect(default: Any, reason: str = "") -> Any:
    """A field that SparseML's recipes carry and that does nothing here; `reason` says why."""
    return Field(default, description=f"accepted; {reason}" if reason else "accepted, without effect")
