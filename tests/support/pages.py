"""Fenced blocks taken from Markdown pages, and run as a reader would: in order, in one folder.

A block below `<!-- file: NAME -->` is what the reader saves as NAME. Commands run in this process through the function
that their console script calls, since loading PyTorch anew for each takes seconds; servers run in processes of their
own, on a free port, and `curl` is the real one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from sparseml.modifiers import build
from sparseml.modifiers.schedule import merge
from sparseml.recipe import load_plan
from sparsezoo.index import entries
from support import corpora, questions, tagged
from support.serving import Running, serving

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"(?:<!-- file: (\S+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = "5543"
_EMBEDDED = "nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/pruned80-none"

_DENSE = _EMBEDDED.replace("pruned80-none", "base-none")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        place: page and line, for messages.
        language: after the fence.
        file: the name to save it as.
    """

    place: str
    language: str
    text: str
    file: str | None = None

    def commands(self) -> Iterator[list[str]]:
        """A shell block's commands, split into arguments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def prepare_folder(zoo_home: Path, model: Path, rows: Path, folder: Path) -> Path:
    """Make the folder in which a reader sits, and return it.

    Args:
        zoo_home: where the model is put as the embedded one, beside that one's recipes.
        model: a folder; it stands for the dense original, too.
        rows: a folder with train.csv and validation.csv, which the reader has; messages.csv, corpus.txt,
            questions.json, names.conll and examples come beside.
        folder: to make.
    """
    shutil.copytree(model, zoo_home / _EMBEDDED)
    for recipe, path in entries()[_EMBEDDED].recipes.items():
        shutil.copy(path, zoo_home / _EMBEDDED / recipe)
    shutil.copytree(model, zoo_home / _DENSE)
    shutil.copytree(rows, folder)
    corpora.write(folder / "corpus.txt", corpora.documents(100, words=(80, 120)))
    shutil.copy(folder / "train.csv", folder / "messages.csv")
    shutil.copytree(ROOT / "examples", folder / "examples")
    questions.write(folder / "questions.json", questions.rows(48))
    questions.write(folder / "questions-validation.json", questions.rows(16, seed=1))
    tagged.write(folder / "names.conll", tagged.rows(120))
    tagged.write(folder / "names-validation.jsonl", tagged.rows(24, seed=1))
    return folder


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            f"{page.name}:{text.count(chr(10), 0, match.start(2)) + 1}",
            match.group(2),
            match.group(3),
            match.group(1),
        )
        for match in _FENCE.finditer(text)
    ]


class Reader:
    """Follows a page.

    Args:
        folder: the current folder, where files are saved and servers write their log.
        skipped: commands that are not run, by how they begin, with the reason.

    Attributes:
        met: of `skipped`, those that came up.
    """

    def __init__(self, folder: Path, skipped: Mapping[str, str]) -> None:
        self.met: set[str] = set()
        self._folder = folder
        self._skipped = skipped
        self._server: Running | None = None
        self._running = ExitStack()
        self._commands = _console_scripts()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def follow(self, block: Block) -> None:
        """Carry out a block; an AssertionError where that fails, with its place."""
        if block.file is not None:
            (self._folder / block.file).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})
        elif block.language == "yaml":
            if "endpoints:" not in block.text:
                merge(build(load_plan(block.text)))
        elif block.language == "bash":
            for words in block.commands():
                self._run(words, block.place)
        elif block.file is None:
            raise AssertionError(f"{block.place}: nobody knows how to follow a block of {block.language!r}")

    def _run(self, words: list[str], place: str) -> None:
        line = shlex.join(words)
        if skipped := next((start for start in self._skipped if line.startswith(start)), None):
            self.met.add(skipped)
        elif words[0] == "curl":
            self._curl(words, place)
        elif words[0] == "deepsparse.server":
            self._serve(words[1:])
        elif words[0] in ("cc", "torchrun") or words[0].startswith("./"):
            self._in_shell(" ".join(words), place)
        else:
            assert words[0] in self._commands, f"{place}: there is no command {words[0]}"
            assert self._commands[words[0]](words[1:]) in (0, None), f"{place}: {line}"

    def _in_shell(self, line: str, place: str) -> None:
        """Run a line in a shell: a compiler, a program that it has made, or a launcher of processes."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", line],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{place}: {done.stdout}{done.stderr}"

    def _serve(self, words: list[str]) -> None:
        """Serve, in the place of what was served before."""
        if "--port" in words:
            at = words.index("--port")
            assert words[at + 1] == _PORT
            words = words[:at] + words[at + 2 :]
        self._running.close()
        self._server = self._running.enter_context(serving(*words, log=self._folder / "server.log"))

    def _curl(self, words: list[str], place: str) -> None:
        assert self._server is not None, f"{place}: no server runs yet"
        own = [word.replace(f"http://localhost:{_PORT}", self._server.url) for word in words]
        done = subprocess.run([*own, "--silent", "--fail"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{place}: {done.stdout}{done.stderr}"


def _console_scripts() -> dict[str, Callable[[list[str]], object]]:
    """What each console script calls, given its words rather than the process's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {name: _main(target) for name, target in project["scripts"].items()}


def _main(target: str) -> Callable[[list[str]], object]:
    def call(words: list[str]) -> object:
        made = import_module(target.partition(":")[0]).main(words)
        # Some give back a report: what goes wrong there is an exception.
        return 0 if isinstance(made, dict) else made

    return call
