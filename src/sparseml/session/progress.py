"""The progress of a training on the terminal: a bar with epoch, loss, rate, sparsity and modifiers; scores by epoch."""

from __future__ import annotations

from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from transformers import TrainerCallback, TrainerState

from resparse.console import console, say
from sparseml.metrics import main_metrics
from sparseml.report import prunable_sparsity
from sparseml.session.session import Session

_UNSHOWN = ("runtime", "per_second", "epoch", "total_flos", "compilation")


class ProgressCallback(TrainerCallback):
    """A live bar on a terminal; otherwise one line per epoch."""

    def __init__(self, session: Session | None) -> None:
        self._session = session
        self._bar: Progress | None = None
        self._task: Any = None
        self._loss: float | None = None
        self._rate: float | None = None
        self._sparsity = 0.0

    def on_train_begin(
        self, args: Any, state: TrainerState, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self._sparsity = prunable_sparsity(model)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=20),
            _State(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, text=""
        )
        self._bar.start()

    def on_step_end(
        self, args: Any, state: TrainerState, control: Any, lr_scheduler: Any = None, **kwargs: Any
    ) -> None:
        self._rate = lr_scheduler.get_last_lr()[0] if lr_scheduler is not None else self._rate
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step, text=self._line(args, state))

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._loss = float(logs["loss"])

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self._sparsity = prunable_sparsity(model)
        if not console.is_terminal:
            say(self._line(args, state))

    def on_evaluate(
        self, args: Any, state: TrainerState, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        if self._bar is None or not metrics:
            return
        shown = [
            f"{key.removeprefix('eval_')} {value:.4f}"
            for key, value in main_metrics(metrics).items()
            if isinstance(value, float) and not any(word in key for word in _UNSHOWN)
        ]
        say(f"epoch {state.epoch or 0:.2f}: {', '.join(shown)}")

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the bar, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, args: Any, state: TrainerState) -> str:
        parts = [f"epoch {state.epoch or 0:.2f}/{args.num_train_epochs:g}"]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3f}")
        if self._rate is not None:
            parts.append(f"lr {self._rate:.1e}")
        parts.append(f"sparsity {self._sparsity:.1%}")
        parts += self._session.labels() if self._session is not None else []
        return " · ".join(parts)


class _State(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["text"])
