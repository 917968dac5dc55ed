"""A command line for people to read: a line for each flag."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def wrapped(words: Sequence[str]) -> str:
    """The words quoted for a shell, with each flag and its values on a line of its own."""
    lines: list[str] = []
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") or not lines:
            lines.append(quoted)
        else:
            lines[-1] += f" {quoted}"
    return " \\\n  ".join(lines)
