"""What docs/tutorial.md says of the tutorial's blocks."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
_ROW = re.compile(r"^\| (\d+) \| `([^`]+)` \| ([^|]+?) \|", re.MULTILINE)
_LINE = re.compile(r"^hf download .*--local-dir (\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """A row of the table: the block's number, words that stand in it, and what becomes of it."""

    number: int
    code: str
    state: str

    @property
    def words(self) -> list[str]:
        """What must stand in the block."""
        return shlex.split(self.code) if self.code.startswith(("sparseml", "head", "pip")) else [self.code]


def rows() -> list[Row]:
    """The table's rows."""
    return [
        Row(int(match[1]), match[2], match[3]) for match in _ROW.finditer(FILE.read_text(encoding="utf-8"))
    ]


def lines_before() -> dict[str, str]:
    """The shell lines that datasets need, by the dataset's old name."""
    return {match[1]: match[0] for match in _LINE.finditer(FILE.read_text(encoding="utf-8"))}


def calls() -> list[str]:
    """The calls of `load_dataset` that need no line before, by datasets' names of today."""
    return re.findall(r'`(load_dataset\("\w+/[^`]*\))`', FILE.read_text(encoding="utf-8"))
