"""The one bridge between a recipe's session and the Trainer's loop."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sparseml.modifiers import Clock
from sparseml.session.session import Session


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

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin at the step that the Trainer is at: 0, or a checkpoint's."""
        self.session.begin(
            self.clock, state.global_step, getattr(optimizer, "optimizer", optimizer), self.decayed
        )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before the first batch of an optimizer step."""
        self.session.before_step(state.global_step)
        if self._not_yet_final(state.global_step):
            # A better score of a model that is not yet what the recipe makes must not win over the final ones.
            state.best_metric, state.best_model_checkpoint, state.best_global_step = None, None, 0

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After clipping."""
        self.session.before_optimizer_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After the optimizer's step."""
        self.session.after_step()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Training is over."""
        self.session.finish()

    def _not_yet_final(self, step: int) -> bool:
        if self._best_after is not None and self.clock.epoch(step) <= self._best_after:
            return True
        return 0 < step <= self.session.final_from()
