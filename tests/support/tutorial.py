"""The tutorial's text as blocks, and a walk through them in one folder, as its reader would."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

VARIABLE = "RESPARSE_TUTORIAL"
Kind = Literal["install", "recipe", "fragment", "snippet", "training", "export", "shell"]

_CHECKOUT = Path(__file__).resolve().parents[2]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def path() -> Path:
    """Where the tutorial's text is: RESPARSE_TUTORIAL, else beside the checkout."""
    return Path(os.environ.get(VARIABLE) or _CHECKOUT.parent / "shared" / "TUTORIAL.md").expanduser()


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        number: from 1, in the order of the text.
        line: of the text on which the block's content begins.
        section: the heading above it.
        language: what the fence says; may be empty.
        text: between the fences.
    """

    number: int
    line: int
    section: str
    language: str
    text: str

    @property
    def kind(self) -> Kind:
        """What is to be done with it."""
        first = self.text.split()[0]
        if self.language == "yaml":
            return "recipe"
        if self.language == "python":
            return "snippet"
        if first.startswith("--"):
            return "fragment"
        if first == "pip":
            return "install"
        if first.endswith("export_onnx"):
            return "export"
        return "training" if first.endswith("text_classification") else "shell"

    @property
    def words(self) -> list[str]:
        """The words of a command."""
        return shlex.split(self.text)

    def option(self, name: str) -> str | None:
        """The value of a command's option; of one that is given twice, the last."""
        following = [
            after for word, after in zip(self.words, self.words[1:], strict=False) if word == f"--{name}"
        ]
        return next((word for word in reversed(following) if not word.startswith("--")), None)

    def __str__(self) -> str:
        return f"{self.number:02}-{self.kind}"


def needed() -> list[Block]:
    """The tutorial's blocks; skips the test module that asks where there is no tutorial."""
    file = path()
    if not file.is_file():
        pytest.skip(f"no tutorial at {file}: name it in {VARIABLE}", allow_module_level=True)
    return read(file)


def read(file: Path) -> list[Block]:
    """All fenced blocks of a Markdown text."""
    text = file.read_text(encoding="utf-8")
    # A comment in a block looks like a heading.
    prose = _FENCED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    blocks = []
    for number, match in enumerate(_FENCED.finditer(text), 1):
        headings = [found[1] for found in _HEADING.finditer(prose, 0, match.start())]
        line = text.count("\n", 0, match.start(2)) + 1
        blocks.append(Block(number, line, headings[-1].strip("* "), match[1], match[2]))
    return blocks


def loaded(block: Block) -> str | None:
    """The old name of the dataset that a block of Python loads by `datasets` itself."""
    found = re.search(r'load_dataset\("(\w+)"', block.text) if block.kind == "snippet" else None
    return found[1] if found else None


@dataclass(frozen=True)
class Ran:
    """What came of a block."""

    block: Block
    status: int
    output: str
    errors: str
    seconds: float

    def __str__(self) -> str:
        """For a failed test: the block, and the ends of what it printed."""
        return (
            f"block {self.block.number} (line {self.block.line}, {self.block.section}) ended with {self.status} "
            f"after {self.seconds:.0f} s\n{self.block.text}\n"
            f"--- output\n{self.output[-4000:]}\n--- errors\n{self.errors[-8000:]}"
        )


@dataclass
class Walk:
    """The blocks, each run once and after those before it.

    Attributes:
        blocks: of the text; those that are no commands are passed over.
        folder: the reader's; empty at first.
        environment: of the reader's shell.
        before: shell lines to run just before a block, by its number.
        outputs: copies of the folders that trainings and exports wrote, by the number of the block; a later block may
            write into the same folder.
    """

    blocks: Sequence[Block]
    folder: Path
    environment: Mapping[str, str]
    before: Mapping[int, str] = field(default_factory=dict)
    outputs: dict[int, Path] = field(default_factory=dict)
    _ran: dict[int, Ran] = field(default_factory=dict)

    def to(self, block: Block) -> Ran:
        """Run a block, and first those before it that have not run yet."""
        for other in self.blocks[: block.number]:
            if other.number not in self._ran and other.kind in ("snippet", "training", "export", "shell"):
                self._ran[other.number] = self._visit(other)
        return self._ran[block.number]

    def run(self, block: Block) -> Ran:
        """Run a block now: Python by the interpreter, all else by the shell."""
        interpreter = ["python"] if block.language == "python" else ["bash", "-e"]
        place = Path(sys.executable).parent
        started = time.monotonic()
        done = subprocess.run(
            [*interpreter, "-c", block.text],
            cwd=self.folder,
            env={**self.environment, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        seconds = time.monotonic() - started
        return Ran(block, done.returncode, done.stdout, done.stderr, seconds)

    def _visit(self, block: Block) -> Ran:
        if line := self.before.get(block.number):
            ran = self.run(Block(block.number, block.line, f"before: {block.section}", "bash", line))
            assert ran.status == 0, str(ran)
        ran = self.run(block)
        written = {"training": block.option("output_dir"), "export": "deployment"}.get(block.kind)
        if written is not None and ran.status == 0:
            self.outputs[block.number] = self.folder.with_name(f"output-{block.number}")
            shutil.copytree(self.folder / written, self.outputs[block.number])
        return ran
