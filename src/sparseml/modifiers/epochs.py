"""The number of epochs."""

from __future__ import annotations

from pydantic import Field, model_validator

from sparseml.modifiers.base import Epoch, Modifier


class EpochRangeModifier(Modifier):
    """Sets how many epochs the run has; no other effect."""

    sets_length = True

    start_epoch: Epoch = Field(0, description="where counting starts; training always starts at 0")
    end_epoch: Epoch = Field(-1, description="number of epochs, which may be fractional; -1: not said here")

    @model_validator(mode="after")
    def _has_an_end(self) -> EpochRangeModifier:
        if self.end_epoch == 0 or self.end_step == 0:
            raise ValueError("the length of the run, end_epoch (or end_step), must be above 0")
        return self
