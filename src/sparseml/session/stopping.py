"""SIGTERM during a training: the step is finished and saved, and the process exits as one that the signal ended."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainerState

from resparse.console import say
from sparseml.processes import are_several, end_together, largest_of_processes

EXIT_CODE: Final = 128 + signal.SIGTERM
"""What a shell reports of a process that SIGTERM has ended."""


class StopCallback(TrainerCallback):
    """Ends a training with a checkpoint when SIGTERM arrives; a second one ends the process at once.

    Of several processes all stop at the step at which one of them has received it.

    Attributes:
        stopped: whether the training was ended so.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._received = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Handle SIGTERM from now on; Python allows that in the main thread alone."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._receive)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Save and end, if it has arrived; a training that has just ended is as it should be."""
        if self._anywhere(args.device) and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True

    def release(self) -> None:
        """Leave SIGTERM to whoever handled it before."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def leave(self, folder: Path) -> None:
        """Leave the process, if the training was ended.

        Args:
            folder: of the run.

        Raises:
            SystemExit: with EXIT_CODE.
        """
        if self.stopped:
            end_together()
            say(f"Stopped by SIGTERM. The same command again goes on from the newest checkpoint in {folder}.")
            raise SystemExit(EXIT_CODE)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)

    def _anywhere(self, device: torch.device) -> bool:
        if not are_several():
            return self._received
        return bool(largest_of_processes(torch.tensor(int(self._received), device=device)))
