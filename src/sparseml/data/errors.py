"""Errors in the data, always with the place where they stand."""

from __future__ import annotations

from resparse.errors import UserError


class DataError(UserError):
    """A dataset that cannot be found, read, or used as asked."""
