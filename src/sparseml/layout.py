"""How help is laid out: a name on the left, what it means on the right."""

from __future__ import annotations

import shutil
import textwrap


def width() -> int:
    """Columns to write for: the terminal's, within what is still read with ease."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 110)


def entry(head: str, body: str, column: int) -> str:
    """Lines that show `head`, and `body` wrapped from `column` on; a long head has its own line."""
    lines = textwrap.wrap(body, width() - column, break_long_words=False, break_on_hyphens=False)
    if len(head) > column - 2 or not lines:
        lines.insert(0, "")
    first, *others = lines
    return "\n".join([f"{head:<{column}}{first}".rstrip(), *(" " * column + line for line in others)])
