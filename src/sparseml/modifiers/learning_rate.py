"""Learning rates as pure functions of the step; `schedule.py` merges them, the session applies them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sparseml.modifiers.base import NOMINAL, Clock, Epoch, Modifier, interpolate, whole_cycles, without_effect

Rate = Annotated[float, Field(ge=0, le=1)]


class LearningRateSetter(Modifier):
    """The common base of the modifiers that say what the learning rate is."""

    sets_rate = True
    gives_way: ClassVar[bool] = False
    """Whether another setter may begin before this one has ended."""

    param_groups: list[int] | None = Field(
        None, description="indices of the optimizer's parameter groups; by default all of them"
    )

    def rate(self, step: float, clock: Clock, group: int = 0) -> float | None:
        """The learning rate at an optimizer step; after its span, the rate that it ended with."""
        if self.param_groups is not None and group not in self.param_groups:
            return None
        return self.curve(step, clock)

    def curve(self, step: float, clock: Clock) -> float:
        """The rate of the groups that it sets, as a pure function of the step."""
        raise NotImplementedError

    def conflicts_with(self, other: Modifier) -> str | None:
        if not isinstance(other, LearningRateSetter) or not self._shares_groups(other):
            return None
        begins, others = self.first_step(NOMINAL), other.first_step(NOMINAL)
        earlier = self if begins < others else other
        if begins != others and (earlier.gives_way or not self.overlaps(other)):
            return None
        return (
            f"{self.name} and {other.name} in line {other.place[1]} both set the learning rate at the same "
            "time: let one end where the other begins."
        )

    def _shares_groups(self, other: LearningRateSetter) -> bool:
        ours, theirs = self.param_groups, other.param_groups
        return ours is None or theirs is None or bool(set(ours) & set(theirs))


class SetLearningRateModifier(LearningRateSetter):
    """One constant rate, from its start until another modifier takes over."""

    gives_way = True

    learning_rate: float = Field(gt=0, le=1, description="the rate")
    constant_logging: bool = without_effect(False, "every logged step carries the rate anyway")

    def curve(self, step: float, clock: Clock) -> float:
        return self.learning_rate


class LearningRateFunctionModifier(LearningRateSetter):
    """From `init_lr` to `final_lr` along a line, half a cosine, or lines that restart every cycle."""

    lr_func: Literal["linear", "cosine", "cyclic_linear"] = Field(description="the curve's form")
    init_lr: Rate = Field(description="rate at the start")
    final_lr: Rate = Field(description="rate at the end")
    cycle_epochs: float = Field(1.0, gt=0, description="epochs in one cycle of cyclic_linear")
    cycle_steps: int | None = Field(None, ge=1, description="in place of cycle_epochs: optimizer steps")
    update_frequency: float = without_effect(-1, "the rate is set at every step")

    @model_validator(mode="after")
    def _has_length(self) -> LearningRateFunctionModifier:
        if self.end_step is None and self.end_epoch <= max(self.start_epoch, 0):
            raise ValueError("end_epoch (or end_step) must be given and lie after the start")
        for length in {"cycle_epochs", "cycle_steps"} & self.model_fields_set:
            if self.lr_func != "cyclic_linear":
                raise ValueError(f"{length} belongs to lr_func cyclic_linear, not to {self.lr_func}")
        if {"cycle_epochs", "cycle_steps"} <= self.model_fields_set and self.cycle_steps is not None:
            raise ValueError("cycle_epochs and cycle_steps say the same thing: give one of them")
        return self

    def curve(self, step: float, clock: Clock) -> float:
        first, last = self.first_step(clock), self.last_step(clock)
        done = min(max(step - first, 0), last - first)
        if self.lr_func == "cyclic_linear":
            cycle = float(self.cycle_steps or max(self.cycle_epochs * clock.steps_per_epoch, 1))
            if done == last - first:
                return self.final_lr
            # A cycle of no whole number of steps must not run past its ends.
            place = max(done - whole_cycles(done, cycle) * cycle, 0)
            fraction = min(place / max(cycle - 1, 1), 1)
            return interpolate("linear", fraction, self.init_lr, self.final_lr)
        return interpolate(self.lr_func, done / max(last - first, 1), self.init_lr, self.final_lr)


class _Kwargs(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Step(_Kwargs):
    gamma: float = Field(0.1, gt=0)
    step_size: float = Field(1.0, gt=0)


class _MultiStep(_Kwargs):
    gamma: float = Field(0.1, gt=0)
    milestones: list[Epoch]


class _Exponential(_Kwargs):
    gamma: float = Field(gt=0)


class _Cosine(_Kwargs):
    lr_min: Rate = 0.0
    cycle_epochs: float = Field(1.0, gt=0)


_KWARGS: dict[str, type[_Kwargs]] = {
    "StepLR": _Step,
    "MultiStepLR": _MultiStep,
    "ExponentialLR": _Exponential,
    "CosineAnnealingWarmRestarts": _Cosine,
}


class LearningRateModifier(LearningRateSetter):
    """PyTorch's schedules of the same names, with their lengths in epochs.

    `lr_kwargs`: StepLR {gamma, step_size}; MultiStepLR {gamma, milestones: epochs of the run};
    ExponentialLR {gamma}, applied once an epoch; CosineAnnealingWarmRestarts {lr_min, cycle_epochs}.
    """

    lr_class: Literal["StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingWarmRestarts"] = Field(
        description="the schedule"
    )
    lr_kwargs: dict[str, Any] = Field(default_factory=dict, description="the schedule's own numbers")
    init_lr: float = Field(gt=0, le=1, description="rate at the start")
    constant_logging: bool = without_effect(False, "every logged step carries the rate anyway")

    @model_validator(mode="after")
    def _kwargs_fit(self) -> LearningRateModifier:
        model = _KWARGS[self.lr_class]
        try:
            model(**self.lr_kwargs)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(
                f"lr_kwargs of {self.lr_class}: {'.'.join(map(str, first['loc']))}: {first['msg']}; "
                f"it takes {', '.join(model.model_fields)}"
            ) from None
        return self

    def curve(self, step: float, clock: Clock) -> float:
        first = self.first_step(clock)
        done = max(min(step, self.last_step(clock)) - first, 0)
        kwargs = _KWARGS[self.lr_class](**self.lr_kwargs)
        if isinstance(kwargs, _Step):
            return self.init_lr * kwargs.gamma ** (done // max(clock.step(kwargs.step_size), 1))
        if isinstance(kwargs, _MultiStep):
            passed = sum(1 for milestone in kwargs.milestones if first + done >= clock.step(milestone))
            return self.init_lr * kwargs.gamma**passed
        if isinstance(kwargs, _Exponential):
            return self.init_lr * kwargs.gamma ** (done // clock.steps_per_epoch)
        assert isinstance(kwargs, _Cosine)
        cycle = max(clock.step(kwargs.cycle_epochs), 1)
        return interpolate("cosine", (done % cycle) / cycle, self.init_lr, kwargs.lr_min)
