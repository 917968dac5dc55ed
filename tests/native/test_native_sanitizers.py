"""The engine's C++ under the compiler's sanitizers, its loader with damaged models, and other widths of vectors.

The program is stress.cpp. The kernels for AMX run on an emulation of its tile registers (emulated_tiles.h), those for
AVX-VNNI on AVX-512's encoding of the same instruction.
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


# By instruction set: what builds it for another one, and what /proc/cpuinfo calls that.
EMULATIONS = {
    "amx": ("-DRESPARSE_EMULATE_TILES", "avx512_vbmi2"),
    "avxvnni": ("-DRESPARSE_EMULATE_AVX_VNNI", "avx512_vnni"),
}


def emulated() -> list[str]:
    """The instruction sets that can be emulated on this processor."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    return [name for name, (_, needed) in EMULATIONS.items() if needed in flags]


@pytest.mark.parametrize(
    ("sanitizers", "commands", "names", "texts"),
    [
        ("address,undefined", ["products", "answers", "damage"], emulated(), (8, 139)),
        # Tiles are a thread's own: emulated, they would show nothing here but take minutes.
        ("thread", ["answers"], [], (5, 97)),
    ],
    ids=["address", "thread"],
)
def test_clean(
    sanitizers: str, commands: list[str], names: list[str], texts: tuple[int, int], tmp_path: Path
):
    flags = ["-Og", "-g1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    flags += [f"-DRESPARSE_TEXTS={texts[0]}", f"-DRESPARSE_LONGEST={texts[1]}"]
    program = built(tmp_path / "stress", *flags, *(EMULATIONS[name][0] for name in names))
    for command in commands:
        printed = output_of(program, command)
        for name in ("portable", *names):
            assert f"{name}: ok" in printed
    assert "teams: ok" in output_of(program, "teams")


@pytest.mark.parametrize("lanes", [4, 8])
def test_vectors_of_other_widths_than_a_panel(lanes: int, tmp_path: Path):
    """The code that all kernels share, as instruction sets with narrower registers compile it."""
    program = built(tmp_path / "stress", "-O1", f"-DRESPARSE_PORTABLE_LANES={lanes}")
    for command in ("products", "answers"):
        assert "portable: ok" in output_of(program, command, "portable")


@pytest.mark.skipif(shutil.which("clang++") is None, reason="there is no clang++ here")
def test_clang_builds_the_same(tmp_path: Path):
    flags = ["-O1", "-Wall", "-Werror", *(EMULATIONS[name][0] for name in emulated())]
    program = built(tmp_path / "stress", *flags, compiler="clang++")
    for command in ("products", "answers"):
        assert "portable: ok" in output_of(program, command)
