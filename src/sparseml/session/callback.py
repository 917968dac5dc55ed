"""The one bridge between a recipe's session and the Trainer's loop: its events, and the learning rate."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerCallback, TrainerState

from sparseml.modifiers import Clock
from sparseml.modifiers.pruning import MaskedModifier
from sparseml.modifiers.schedule import Schedule
from sparseml.report import prunable_sparsity
from sparseml.session.session import Session

SPARSITY = "sparsity"
"""The key in `log_history` of the share of zeros in all Linear layers."""


class RecipeCallback(TrainerCallback):
    """Passes the Trainer's events on to a Session.

    The session's state is tensors (masks, ranges), which `trainer_state.json` cannot carry: the trainer
    saves it beside the weights (`checkpoint.py`) and loads it before this callback's `on_train_begin`.
    """

    def __init__(self, session: Session, best_model_after_epoch: float | None = None) -> None:
        self.session = session
        self.clock = Clock(1, 0)
        self.decayed: frozenset[int] = frozenset()
        self._best_after = best_model_after_epoch
        self._mask_updates = 0

    def on_train_begin(
        self, args: Any, state: TrainerState, control: Any, optimizer: Optimizer | None = None, **kwargs: Any
    ) -> None:
        """Begin at step 0, or at the checkpoint's."""
        self.session.begin(
            self.clock, state.global_step, getattr(optimizer, "optimizer", optimizer), self.decayed
        )
        self._log_sparsity(state)

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.session.before_step(state.global_step)
        if self.not_yet_final(state.global_step):
            # A better score of a model that is not yet what the recipe makes must not win over the final ones.
            state.best_metric, state.best_model_checkpoint, state.best_global_step = None, None, 0

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.session.before_optimizer_step()

    def on_optimizer_step(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.session.after_step()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._log_sparsity(state)

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.session.finish()

    def _log_sparsity(self, state: TrainerState) -> None:
        """Add the sparsity to `log_history` where new masks have changed it, by 0.01 % at least."""
        masked = [modifier for modifier in self.session.modifiers if isinstance(modifier, MaskedModifier)]
        updates = sum(modifier.mask_updates for modifier in masked)
        if updates == self._mask_updates:
            return
        self._mask_updates = updates
        sparsity = round(prunable_sparsity(self.session.run.model), 4)
        before = next((entry[SPARSITY] for entry in reversed(state.log_history) if SPARSITY in entry), None)
        if sparsity != before:
            epoch = round(self.clock.epoch(state.global_step), 4)
            state.log_history.append({"epoch": epoch, SPARSITY: sparsity, "step": state.global_step})

    def not_yet_final(self, step: int) -> bool:
        """Whether the model after this many steps is not yet a candidate for the best one."""
        if self._best_after is not None and self.clock.epoch(step) <= self._best_after:
            return True
        return 0 < step <= self.session.final_from()


class RecipeRate(LRScheduler):
    """The recipe's learning rate as a PyTorch scheduler, so that the Trainer logs and saves the one in use.

    Where the schedule does not say (before its first modifier begins), the optimizer's own rate stays.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, clock: Clock) -> None:
        self._schedule = schedule
        self._clock = clock
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each parameter group at step `last_epoch`, PyTorch's name for the number of steps."""
        rates: list[float | Tensor] = []
        for group, base in enumerate(self.base_lrs):
            rate = self._schedule.rate(self.last_epoch, self._clock, group)
            rates.append(float(base) if rate is None else rate)
        return rates

    def state_dict(self) -> dict[str, Any]:
        """The number of steps alone: the rest is in the recipe."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch = state_dict["last_epoch"]
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
