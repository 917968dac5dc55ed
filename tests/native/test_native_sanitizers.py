"""The engine's C++ under the compiler's sanitizers, its loader with damaged models, and other widths of vectors.

The program is stress.cpp. The kernels for AMX run on an emulation of its tile registers (emulated_tiles.h).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deepsparse import native

SOURCES = Path(native.__file__).parent / "csrc"
STRESS = Path(__file__).parent / "stress.cpp"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to build the engine with"),
]


def has_vbmi2() -> bool:
    """Whether this processor has all that the kernels for AMX use, but for the tiles."""
    try:
        return "avx512_vbmi2" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def built(program: Path, *flags: str) -> Path:
    """The stress program with the engine's sources."""
    sources = [str(STRESS), *map(str, sorted(SOURCES.rglob("*.cpp")))]
    includes = [f"-I{SOURCES}", f"-I{STRESS.parent}"]
    subprocess.run(
        ["g++", "-std=c++17", "-pthread", "-Wno-psabi", *flags, *includes, *sources, "-o", str(program)],
        check=True,
    )
    return program


def output_of(program: Path, command: str) -> str:
    done = subprocess.run([str(program), command], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("sanitizers", "commands", "emulated"),
    [
        ("address,undefined", ["products", "answers", "damage"], has_vbmi2()),
        # Tiles are a thread's own: emulated, they would show nothing here but take minutes.
        ("thread", ["answers"], False),
    ],
    ids=["address", "thread"],
)
def test_clean(sanitizers: str, commands: list[str], emulated: bool, tmp_path: Path):
    flags = ["-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    if emulated:
        flags.append("-DRESPARSE_EMULATE_TILES")
    program = built(tmp_path / "stress", *flags)
    for command in commands:
        assert ("amx: ok" if emulated else "ok") in output_of(program, command)


@pytest.mark.parametrize("lanes", [4, 8])
def test_vectors_of_other_widths_than_a_panel(lanes: int, tmp_path: Path):
    """The code that all kernels share, as instruction sets with narrower registers compile it."""
    program = built(tmp_path / "stress", "-O1", f"-DRESPARSE_PORTABLE_LANES={lanes}")
    for command in ("products", "answers"):
        assert "portable: ok" in output_of(program, command)
