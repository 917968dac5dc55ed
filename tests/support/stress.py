"""The program that runs the native engine's C++ without Python, tests/native/stress.cpp, built with given flags."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from deepsparse import native

SOURCES = Path(native.__file__).parent / "csrc"
STRESS = Path(__file__).parents[1] / "native" / "stress.cpp"


def built(program: Path, *flags: str, compiler: str = "g++") -> Path:
    """The stress program with the engine's sources."""
    sources = [str(STRESS), *map(str, sorted(SOURCES.rglob("*.cpp")))]
    includes = [f"-I{SOURCES}", f"-I{STRESS.parent}"]
    subprocess.run(
        [compiler, "-std=c++17", "-pthread", "-Wno-psabi", *flags, *includes, *sources, "-o", str(program)],
        check=True,
    )
    return program


def output_of(program: Path, command: str, emulator: Sequence[str] = ()) -> str:
    """What it prints; it must end well."""
    done = subprocess.run(
        [*emulator, str(program), command], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
