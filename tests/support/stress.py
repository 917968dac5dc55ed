"""The program that runs the native engine's C++ without Python, tests/native/stress.cpp, built with given flags."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepsparse import native
from support import once

SOURCES = Path(native.__file__).parent / "csrc"
STRESS = Path(__file__).parents[1] / "native" / "stress.cpp"


def built(program: Path, *flags: str, compiler: str = "g++", main: Path = STRESS) -> Path:
    """The stress program, or another `main`, with the engine's sources.

    Objects are made once a session: of two builds that differ in a definition, most are the same.
    """
    program.parent.mkdir(exist_ok=True)
    command = [compiler, "-std=c++17", "-pthread", "-fwrapv", "-Wno-psabi"]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        sources = [main, *sorted(SOURCES.rglob("*.cpp"))]
        made = list(threads.map(lambda source: _object(source, [*command, *flags]), sources))
    subprocess.run([*command, *flags, *map(str, made), "-o", str(program)], check=True)
    return program


def _object(source: Path, command: Sequence[str]) -> Path:
    """A compiled source, made once for each command and text that the preprocessor makes of it."""
    includes = [f"-I{SOURCES}", f"-I{STRESS.parent}"]
    text = subprocess.run([*command, *includes, "-E", str(source)], check=True, capture_output=True).stdout
    plain = [word for word in command if not word.startswith("-D")]
    return once.made(
        (plain, hashlib.sha256(text).hexdigest()),
        lambda path: subprocess.run([*command, *includes, "-c", str(source), "-o", str(path)], check=True),
    )


def output_of(program: Path, *command: str, emulator: Sequence[str] = ()) -> str:
    """What it prints; it must end well."""
    done = subprocess.run(
        [*emulator, str(program), *command], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
