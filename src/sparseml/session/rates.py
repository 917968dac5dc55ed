"""The recipe's learning rate as a PyTorch scheduler, so that the Trainer logs and saves what really rules."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sparseml.modifiers import Clock
from sparseml.modifiers.schedule import Schedule


class RecipeRate(LRScheduler):
    """Sets each parameter group's rate to what the schedule says for the step.

    Where the schedule does not say (before its first modifier begins), the optimizer's own rate stays.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, clock: Clock) -> None:
        self._schedule = schedule
        self._clock = clock
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """A rate for each parameter group, at step `last_epoch` (PyTorch's name for the count of steps)."""
        rates: list[float | Tensor] = []
        for group, base in enumerate(self.base_lrs):
            rate = self._schedule.rate(self.last_epoch, self._clock, group)
            rates.append(float(base) if rate is None else rate)
        return rates

    def state_dict(self) -> dict[str, Any]:
        """Only the count of steps: everything else is the recipe's."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the count of steps."""
        self.last_epoch = state_dict["last_epoch"]
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
