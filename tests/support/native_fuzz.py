"""The loader of packed models under libFuzzer: tests/native/fuzz_loader.cpp, built with clang, and run for a while."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import which

from support import stress

PROGRAM = stress.STRESS.with_name("fuzz_loader.cpp")
FLAGS = ("-O1", "-gline-tables-only", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
_MEGABYTES = 2048
_SLOWEST_S = 5


@cache
def available() -> bool:
    """Whether there is a clang with libFuzzer and the sanitizers (Debian: clang and libclang-rt-dev)."""
    if which("clang++") is None:
        return False
    source = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    command = ["clang++", "-x", "c++", *FLAGS, "-", "-o", "/dev/null"]
    return subprocess.run(command, input=source.encode(), capture_output=True, check=False).returncode == 0


def built(program: Path) -> Path:
    """The program."""
    return stress.built(program, *FLAGS, compiler="clang++", main=PROGRAM)


def searched(
    program: Path, corpus: Path, seconds: float, found: Path, say: Callable[[str], object] = print
) -> bool:
    """Fuzz for some seconds; whether nothing was found. What was, is written into `found`.

    Args:
        corpus: a folder, in which the program's own models are written, and new inputs are kept.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    # The first call writes the models, the second reads them.
    subprocess.run([program, corpus, "-runs=0"], capture_output=True, check=False)
    options = {
        "max_total_time": max(int(seconds), 1),
        "rss_limit_mb": _MEGABYTES,
        "timeout": _SLOWEST_S,
        "artifact_prefix": f"{found}/loader-",
        "print_final_stats": 1,
    }
    words = [f"-{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [program, corpus, *words], capture_output=True, text=True, errors="replace", check=False
    )
    units = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    say("\n".join(units) if done.returncode == 0 else done.stderr[-5000:])
    return done.returncode == 0 and bool(units)
