"""The engine's C++ under the sanitizers of the compiler, and its loader under damaged models; see stress.cpp.

The kernels for AMX run on a model of its tile registers (emulated_tiles.h), which needs no processor that has them.
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
    program = tmp_path / "stress"
    flags = ["-std=c++17", "-O1", "-g", "-pthread", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    if emulated:
        flags.append("-DRESPARSE_EMULATE_TILES")
    sources = [str(STRESS), *map(str, sorted(SOURCES.rglob("*.cpp")))]
    subprocess.run(
        ["g++", *flags, f"-I{SOURCES}", f"-I{STRESS.parent}", *sources, "-o", str(program)], check=True
    )
    for command in commands:
        done = subprocess.run(
            [str(program), command], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("instruction set 8: ok" if emulated else "ok") in done.stdout
