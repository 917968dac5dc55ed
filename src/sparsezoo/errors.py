"""Errors of the zoo."""

from __future__ import annotations

from resparse.errors import UserError


class ZooError(UserError):
    """A stub that cannot be read, or something in the zoo that cannot be had."""
