"""The runtime's errors."""

from __future__ import annotations

from resparse.errors import UserError


class DeepsparseError(UserError):
    """The base of the runtime's errors."""


class ModelError(DeepsparseError):
    """A model, or a file that belongs to it, is missing, damaged, or does not fit the others."""


class UnsupportedError(ModelError):
    """A sound model that an engine cannot run, and others can; `reason` says why, as the end of a sentence.

    Args:
        reason: why.
        setting: of the recipe, or of what quantized the model, that made it so; the reason ends with it.
    """

    def __init__(self, reason: str, setting: str = "") -> None:
        reason = f"{reason} (set by: {setting})" if setting else reason
        super().__init__(f"The native engine cannot run this model: {reason}.")
        self.reason = reason


class EngineError(DeepsparseError):
    """An engine or a task that does not exist, or a setting that cannot be used."""


class InputError(DeepsparseError):
    """An input that cannot be read. Positions count from 0."""
