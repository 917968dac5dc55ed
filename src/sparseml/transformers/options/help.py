"""How a command's help shows its options. No torch, no transformers: help comes at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from resparse.console import entry
from sparseml.transformers.options.table import Option


def section(title: str, names: Iterable[str], options: Mapping[str, Option]) -> str:
    """A title, and a line or more for each of the options that there are."""
    lines = [f"{title}:"]
    for name in names:
        option = options.get(name)
        if option is not None:
            head = f"  --{name} {option.metavar}".rstrip()
            lines.append(entry(head, option.help + _default(option.default), column=34))
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value is None or value is False or value in ("", [], -1):
        return ""
    if value is True:
        return " [on]"
    return f" [{value.value if isinstance(value, Enum) else value}]"
