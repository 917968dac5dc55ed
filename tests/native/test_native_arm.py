"""The kernels for ARM, cross-compiled and run by an emulator on processors of each level. `make arm` runs this file.

What the other files here check through Python, stress.cpp checks without it: products of every instruction set against
the portable ones, and whole models over lengths, batches and threads. Against portable kernels with vectors of the same
width, answers are the same bit for bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.stress import SOURCES, built, output_of

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
ROOT = Path(__file__).parents[2]
LIBRARIES = Path("/usr/aarch64-linux-gnu")  # where Debian has those of the cross-compiler

LEVELS = {
    "cortex-a72": ["portable", "neon"],
    "neoverse-n1": ["portable", "neon", "dotprod"],
    "max": ["portable", "neon", "dotprod", "i8mm"],
}

missing = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"there is no {' and no '.join(missing)} here"),
]


def emulator(processor: str) -> list[str]:
    return [EMULATOR, "-L", str(LIBRARIES), "-cpu", processor]


def instruction_sets(output: str) -> list[str]:
    """Those whose kernels a run of the program has checked."""
    return [line.removesuffix(": ok") for line in output.splitlines() if line.endswith(": ok")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arm") / "stress"
    less = [f"-DRESPARSE_{name}" for name in ("CALLERS=1", "TEXTS=6", "LONGEST=139")]
    return built(path, "-O2", "-static", "-DRESPARSE_PORTABLE_LANES=4", *less, compiler=COMPILER)


@pytest.mark.parametrize("processor", LEVELS)
def test_products_are_exact(program: Path, processor: str):
    assert instruction_sets(output_of(program, "products", emulator=emulator(processor))) == LEVELS[processor]


def test_answers_are_those_of_the_portable_kernels(program: Path):
    assert instruction_sets(output_of(program, "answers", emulator=emulator("max"))) == LEVELS["max"]


@pytest.mark.parametrize("processor", ["cortex-a72", "max"])
def test_damaged_models_are_refused_or_run(program: Path, processor: str):
    """And none with an instruction that the processor lacks, which would end the program."""
    assert instruction_sets(output_of(program, "damage", emulator=emulator(processor))) == LEVELS[processor]


@pytest.mark.skipif(not (LIBRARIES / "lib/libasan.so.8").exists(), reason="no sanitizers for ARM here")
def test_products_read_nothing_beyond_their_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")  # the emulator has no ptrace
    flags = ["-Og", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    checked = built(tmp_path / "stress", *flags, compiler=COMPILER)
    assert instruction_sets(output_of(checked, "products", emulator=emulator("max"))) == LEVELS["max"]


def test_the_extension_builds_and_loads(tmp_path: Path):
    """As an installation on ARM builds it: with the flags of setup.py."""
    tools = dict.fromkeys(("CC", "CXX"), COMPILER)
    tools |= dict.fromkeys(("LDSHARED", "LDCXXSHARED"), f"{COMPILER} -shared")
    places = [f"--build-lib={tmp_path}", f"--build-temp={tmp_path / 'objects'}"]
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", *places], cwd=ROOT, env=os.environ | tools, check=True
    )
    (library,) = tmp_path.rglob("_engine*.so")
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "engine.h"\n#include <cstdio>\nint main() { std::printf("%u\\n", resparse_isas()); }\n'
    )
    program = tmp_path / "main"
    subprocess.run([COMPILER, f"-I{SOURCES}", str(main), str(library), "-o", str(program)], check=True)
    usable = [int(output_of(program, "", emulator=emulator(processor))) for processor in LEVELS]
    assert usable == [1 | 1 << 16, 1 | 3 << 16, 1 | 7 << 16]
