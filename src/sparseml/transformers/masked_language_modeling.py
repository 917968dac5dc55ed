"""The command `sparseml.transformers.masked_language_modeling`."""

from __future__ import annotations

from sparseml.transformers.training_command import TrainingCommand

_COMMAND = TrainingCommand("masked_language_modeling")
cli, main = _COMMAND.cli, _COMMAND.main

if __name__ == "__main__":
    raise SystemExit(cli())
