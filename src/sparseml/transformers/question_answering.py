"""The command `sparseml.transformers.question_answering`."""

from __future__ import annotations

from sparseml.transformers.training_command import TrainingCommand

_COMMAND = TrainingCommand("question_answering")
cli, main = _COMMAND.cli, _COMMAND.main

if __name__ == "__main__":
    raise SystemExit(cli())
