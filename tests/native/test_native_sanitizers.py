"""The engine's C++ under the compiler's sanitizers, its loader with damaged models, and other widths of vectors.

The program is stress.cpp. The kernels for AMX run on an emulation of its tile registers (emulated_tiles.h).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.stress import built, output_of

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
