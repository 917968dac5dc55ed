"""The command `sparseml.transformers.token_classification`."""

from __future__ import annotations

from sparseml.transformers.training_command import TrainingCommand

_COMMAND = TrainingCommand("token_classification")
cli, main = _COMMAND.cli, _COMMAND.main

if __name__ == "__main__":
    raise SystemExit(cli())
