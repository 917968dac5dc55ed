"""Fuzzing for minutes: `python tests/fuzz/run.py [--seconds 60] [TARGET ...]`; `make stress` calls it.

Inputs of the corpus are damaged at random, and each must be answered or refused as `support.fuzzing` says. Where
atheris is installed (`pip install atheris`), it searches by coverage; else damage is blind. An input that is a fault
is written into `--found`, and the exit code is 1: once mended, it belongs into the target's folder of the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from support.fuzz_targets import TARGETS, remove_folders  # noqa: E402
from support.fuzzing import FaultError, Memory, Target, check  # noqa: E402
from support.mutation import mutated  # noqa: E402

_MEGABYTES = 4096
_LONGEST_INPUT = 200_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the targets one after the other, each in a process of its own, which may crash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default: 60)")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the damage; by default another one every time"
    )
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where faults are written")
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if unknown := sorted({*arguments.targets} - {*TARGETS}):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    names = arguments.targets or list(TARGETS)
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**31)
    guided = not arguments.blind and importlib.util.find_spec("atheris") is not None
    arguments.found.mkdir(parents=True, exist_ok=True)
    if arguments.here:
        search = _guided if guided else _blind
        return search(TARGETS[names[0]], arguments.seconds, seed, arguments.found)
    if not guided:
        print("atheris is not used: inputs are damaged without regard to coverage")
    print(f"seed {seed}")
    # Where a tokenizer's panic prints its callers, reading their names takes more memory than the input did.
    environment = os.environ | {"RUST_BACKTRACE": "0"}
    faulty = []
    for name in names:
        words = [
            "--here",
            "--seconds",
            str(arguments.seconds),
            "--seed",
            str(seed),
            "--found",
            str(arguments.found),
        ]
        command = [sys.executable, __file__, *words, *(["--blind"] if arguments.blind else []), name]
        if subprocess.run(command, check=False, env=environment).returncode != 0:
            faulty.append(name)
    if not arguments.targets and not _loader_stands(arguments.seconds, arguments.found):
        faulty.append("the native engine's loader")
    print(f"faults in: {', '.join(faulty)} (see {arguments.found}/)" if faulty else "no faults")
    return 1 if faulty else 0


def _loader_stands(seconds: float, found: Path) -> bool:
    """Fuzz the C++ that loads packed models; without clang a line says that it was left out."""
    from support import native_fuzz

    if not native_fuzz.available():
        print("NOT DONE: the loader of packed models; there is no clang with libFuzzer here")
        return True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = native_fuzz.built(folder / "fuzz" / "loader")
        return native_fuzz.searched(program, folder / "corpus", seconds, found)


def _blind(target: Target, seconds: float, seed: int, found: Path) -> int:
    """Damage at random until the time is over; every kind of fault is kept once."""
    _quiet()
    source = random.Random(seed)
    corpus = target.corpus()
    seen: set[str] = set()
    count = answered = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target.warm(folder)
        for data in corpus:
            _try(target, data, folder, None, seen, found)
        memory = Memory()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data = mutated(source.choice(corpus), corpus, target.tokens, source)
            answered += _try(target, data, folder, memory, seen, found)
            count += 1
    remove_folders()
    print(
        f"{target.name:22} {count:8,} inputs, {answered:8,} answered, {len(seen)} kinds of faults", flush=True
    )
    return 1 if seen else 0


def _try(
    target: Target, data: bytes, folder: Path, memory: Memory | None, seen: set[str], found: Path
) -> bool:
    try:
        return check(target, data, folder, memory)
    except FaultError as fault:
        if (kind := _kind(fault)) not in seen:
            seen.add(kind)
            path = found / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"{target.name}: {fault}\n  {kind}\n  {path}", flush=True)
        if memory is not None:
            memory.raise_normal()
        return False


def _kind(fault: FaultError) -> str:
    """Where in the project the cause was raised."""
    trace = (fault.__cause__ or fault).__traceback__
    place = str(fault)[:20]
    while trace is not None:
        code = trace.tb_frame.f_code
        if f"{ROOT}/src/" in code.co_filename:
            place = f"{Path(code.co_filename).relative_to(ROOT / 'src')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _guided(target: Target, seconds: float, seed: int, found: Path) -> int:
    """Let atheris (libFuzzer) choose the damage by coverage; it ends the process, with the first fault."""
    import atheris

    _quiet()
    corpus = target.corpus()
    folder = Path(tempfile.mkdtemp())
    with atheris.instrument_imports(include=list(target.packages)):
        target.warm(folder)
        for data in corpus:
            check(target, data, folder)
    memory = Memory()

    def feed(data: bytes) -> None:
        check(target, data, folder, memory)

    def damage(data: bytes, most: int, number: int) -> bytes:
        source = random.Random(number)
        if source.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutated(data, corpus, target.tokens, source)[:most]

    # New inputs go into the first folder: not into the corpus, which is chosen by hand.
    options = {
        "max_total_time": int(seconds),
        "timeout": 30,
        "rss_limit_mb": _MEGABYTES,
        "max_len": _LONGEST_INPUT,
        "seed": seed % 2**31 or 1,
        "verbosity": 0,
        "print_final_stats": 1,
        "artifact_prefix": f"{found}/{target.name}-",
    }
    words = [f"-{name}={value}" for name, value in options.items()]
    print(f"{target.name}:", flush=True)
    atheris.Setup([sys.argv[0], *words, tempfile.mkdtemp(), str(target.folder)], feed, custom_mutator=damage)
    atheris.Fuzz()
    return 0


def _quiet() -> None:
    """Without the warnings and logs of libraries about inputs that are meant to be wrong."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
