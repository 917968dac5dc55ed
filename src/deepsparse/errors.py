"""What can go wrong between a deployment folder and an answer."""

from __future__ import annotations

from resparse.errors import UserError


class DeepsparseError(UserError):
    """The base of the runtime's errors."""


class ModelError(DeepsparseError):
    """A model, or a file that belongs to it, is missing, damaged, or does not fit the others."""


class EngineError(DeepsparseError):
    """An engine that is not there, or a setting that it cannot follow."""


class InputError(DeepsparseError):
    """A text that cannot be classified. Its position counts from 0, as Python's lists do."""
