"""Early stopping under a recipe: ends a training whose validation score no longer improves, in its last phase only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from transformers import TrainerCallback, TrainerState

from resparse.console import say, warn

EARLY_STOP: Final = "early_stop"
"""The key in report.json."""


@dataclass(frozen=True)
class Standing:
    """Where a training is on the way to its early stop.

    Attributes:
        evaluations: those that count.
        without_gain: the last of them that did not improve on the best before them.
        best_step: the optimizer step of the best; None before the first.
    """

    evaluations: int
    without_gain: int
    best_step: int | None


def standing(
    scores: Sequence[tuple[int, float]], greater_is_better: bool, threshold: float = 0.0
) -> Standing:
    """Count the evaluations since the last gain.

    Args:
        scores: (optimizer step, metric) of the evaluations that count, in order. One that is not finite is no gain.
        greater_is_better: whether higher is better.
        threshold: a gain is an improvement by more than this.
    """
    best, best_step, without_gain = -math.inf, None, 0
    for step, score in scores:
        value = score if greater_is_better else -score
        if math.isfinite(value) and (best_step is None or value - best > threshold):
            best, best_step, without_gain = value, step, 0
        else:
            without_gain += 1
    return Standing(len(scores), without_gain, best_step)


class EarlyStoppingCallback(TrainerCallback):
    """Ends the training after `patience` evaluations in a row without a gain.

    Only evaluations of what the recipe makes count: before its last phase has begun (pruned as far as it prunes,
    quantized), a training neither ends nor loses patience, so that the phases before are kept whole. All that it
    knows is in the Trainer's log, which a checkpoint has: a resumed training stops where the uninterrupted one does.

    Args:
        patience: at least 1.
        threshold: how much the metric must improve by, in its own units.
        not_yet_final: of an optimizer step, whether the model is not yet what the recipe makes.
    """

    def __init__(self, patience: int, threshold: float, not_yet_final: Callable[[int], bool]) -> None:
        self.patience, self.threshold = patience, threshold
        self.stopped: dict[str, Any] | None = None
        """For report.json: at which step it ended the training, and the step of the best score."""
        self._not_yet_final = not_yet_final
        self._training = False

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._training = True
        if self._not_yet_final(state.max_steps):
            warn(
                "--early_stopping_patience has no effect: the model is what the recipe makes only at the end of the "
                "training."
            )
        self._end_if_spent(args, state, control)

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if self._training:
            self._end_if_spent(args, state, control)

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._training = False

    def _end_if_spent(self, args: Any, state: TrainerState, control: Any) -> None:
        metric = metric_name(args)
        counting = [
            (int(entry["step"]), float(entry[metric]))
            for entry in state.log_history
            if metric in entry and entry["step"] > 0 and not self._not_yet_final(entry["step"])
        ]
        found = standing(counting, bool(args.greater_is_better), self.threshold)
        if found.without_gain < self.patience or state.global_step >= state.max_steps:
            return
        control.should_training_stop = True
        self.stopped = {"step": state.global_step, "of_steps": state.max_steps, "best_step": found.best_step}
        best = "none is finite" if found.best_step is None else f"the best is of step {found.best_step:,}"
        say(
            f"early stopping after step {state.global_step:,} of {state.max_steps:,}: {found.without_gain} evaluations "
            f"without a better {metric} ({best})"
        )


def metric_name(args: Any) -> str:
    """The metric by which checkpoints are compared, as evaluations log it."""
    name = str(args.metric_for_best_model or "loss")
    return name if name.startswith("eval_") else f"eval_{name}"


def early_stopping(args: Any, not_yet_final: Callable[[int], bool]) -> EarlyStoppingCallback | None:
    """The callback that training arguments ask for; None where they do not."""
    if args.early_stopping_patience is None:
        return None
    return EarlyStoppingCallback(
        args.early_stopping_patience, args.early_stopping_threshold or 0.0, not_yet_final
    )
