"""How much of what the processor can do the native engine's products reach: all linear layers of a BERT base.

The peak is a loop of nothing but multiply-adds on registers (peak.cpp), on as many threads, and a contestant: it takes
turns with the products, each of which is set against the peak of just before. Products run as in a model, requantized;
beside it the sums alone, which tell what requantization costs. Zeros count as multiplied, so a form that skips them
may reach more than all of the peak. On one thread, time is what the thread ran, not what passed, which other work on
the machine changes little.

    python benchmarks/engine_peak.py
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse.hardware import usable_cores
from deepsparse.native import library, timing
from deepsparse.native.encoder import Activation
from deepsparse.native.library import InstructionSet, WeightFormat
from deepsparse.native.timing import PackedMatrix
from interleaved import WARM_UP
from processors import keep_here
from record import table
from resparse.console import run, say

SOURCES = Path(library.__file__).parent / "csrc"
# Of a layer of BERT base: outputs, inputs, what follows.
LAYER = (
    *4 * ((768, 768, Activation.NONE),),
    (3072, 768, Activation.GELU),
    (768, 3072, Activation.NONE),
)
TOKENS = (16, 32, 64, 128, 512)
DENSE = (WeightFormat.DENSE, WeightFormat.DENSE_OCTETS)
SPARSE = 0.9  # zeros of all other forms
BURST_SECONDS = 0.03
GOAL = 0.6  # of AMX's peak at 64 tokens or more


class Peak:
    """The program peak.cpp, running; `sets` are the instruction sets that it knows and this processor has."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        known = {one.isa: one for one in library.instruction_sets()}
        self.sets = [known[int(isa)] for isa in self._read().split()]

    def rate(self, isa: InstructionSet, threads: int) -> float:
        """Multiply-adds a second."""
        assert self._process.stdin is not None
        print(isa.isa, threads, BURST_SECONDS, file=self._process.stdin, flush=True)
        return float(self._read())

    def end(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def started_peak() -> Iterator[Peak]:
    """Build and start the program."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        files = [str(Path(__file__).with_name("peak.cpp")), *map(str, SOURCES.rglob("*.cpp"))]
        say("building peak.cpp")
        subprocess.run(
            [
                "g++",
                "-O2",
                "-std=c++17",
                "-pthread",
                "-Wno-psabi",
                f"-I{SOURCES}",
                *files,
                "-o",
                str(program),
            ],
            check=True,
        )
        peak = Peak(program)
        try:
            yield peak
        finally:
            peak.end()


@dataclass
class Products:
    """A contestant: the products of all layers, with so many tokens.

    Attributes:
        rates: multiply-adds a second in each round, zeros counted.
        peaks: that were measured just before.
    """

    isa: InstructionSet
    form: WeightFormat
    matrices: list[PackedMatrix]
    tokens: int
    threads: int
    sums_only: bool
    rates: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    _runs: int = 1

    def burst(self, peak: Peak, counts: bool) -> None:
        """Measure the peak, then the products."""
        at_most = peak.rate(self.isa, self.threads)
        seconds = timing.seconds(
            self.isa,
            self.matrices,
            self.tokens,
            threads=self.threads,
            runs=self._runs,
            sums_only=self.sums_only,
        )
        self._runs = max(1, round(BURST_SECONDS / seconds))
        if counts:
            self.peaks.append(at_most)
            self.rates.append(sum(one.rows * one.columns for one in self.matrices) * self.tokens / seconds)

    def found(self) -> dict[str, Any]:
        """What was measured: medians over the rounds, and the best of both."""
        return {
            "isa": self.isa.name,
            "form": self.form.name.lower(),
            "zeros": zeros_of(self.form),
            "tokens": self.tokens,
            "threads": self.threads,
            "sums_only": self.sums_only,
            "peak": statistics.median(self.peaks),
            "best_peak": max(self.peaks),
            "rate": statistics.median(self.rates),
            "share": statistics.median(a / b for a, b in zip(self.rates, self.peaks, strict=True)),
            "best_share": max(self.rates) / max(self.peaks),
        }


def zeros_of(form: WeightFormat) -> float:
    """The share of zeros that a form is measured at."""
    return 0.0 if form in DENSE else SPARSE


def packed_layers(form: WeightFormat, layers: int) -> list[PackedMatrix]:
    """Matrices of random weights, each in memory of its own, so that as many bytes are read as by a model."""
    chance = np.random.default_rng(0)
    matrices = []
    for rows, columns, activation in layers * LAYER:
        weights = chance.integers(-127, 128, (rows, columns), dtype=np.int8)
        weights[chance.random(weights.shape, np.float32) < zeros_of(form)] = 0
        data = library.aligned(library.packed_size(form, weights))
        library.pack(form, weights, data)
        matrices.append(PackedMatrix(form, data, rows, columns, activation))
    return matrices


def measured(peak: Peak, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every instruction set with a peak, form and number of tokens; requantized, and the sums alone."""
    contestants = []
    for isa in peak.sets:
        if arguments.isa not in (None, isa.name):
            continue
        for form in isa.formats:
            say(f"{isa.name}: packing {form.name.lower()}")
            matrices = packed_layers(form, arguments.layers)
            contestants += [
                Products(isa, form, matrices, tokens, threads, sums_only)
                for tokens in arguments.tokens
                for threads in arguments.threads
                for sums_only in (False, True)
            ]
    order = random.Random(0)
    for number in range(WARM_UP + arguments.rounds):
        say(f"round {number + 1} of {WARM_UP + arguments.rounds}")
        for contestant in order.sample(contestants, len(contestants)):
            contestant.burst(peak, counts=number >= WARM_UP)
    return [one.found() for one in contestants]


def lines_of(found: Sequence[dict[str, Any]]) -> str:
    """The table: medians, and the best in brackets."""
    header = [
        "instructions, form",
        "zeros",
        "threads",
        "tokens",
        "peak, G/s",
        "of it, requantized",
        "sums alone",
    ]

    def place(one: dict[str, Any]) -> tuple[Any, ...]:
        return one["isa"], one["form"], one["threads"], one["tokens"]

    sums = {place(one): one for one in found if one["sums_only"]}

    def share(one: dict[str, Any]) -> str:
        return f"{one['share']:.0%} ({one['best_share']:.0%})"

    rows = [
        [
            f"{one['isa']}, {one['form']}",
            f"{one['zeros']:.0%}",
            str(one["threads"]),
            str(one["tokens"]),
            f"{one['peak'] / 1e9:.0f} ({one['best_peak'] / 1e9:.0f})",
            share(one),
            share(sums[place(one)]),
        ]
        for one in sorted(found, key=place)
        if not one["sums_only"]
    ]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS))
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, usable_cores()}))
    parser.add_argument("--isa", help="only this one")
    arguments = parser.parse_args()
    with started_peak() as peak:
        found = measured(peak, arguments)
    keep_here(
        "engine_peak",
        "Linear layers of a BERT base by the processor's peak, in turns; medians, the best in brackets "
        f"(goal with AMX: {GOAL:.0%} from 64 tokens on)",
        [lines_of(found)],
        {"products": found},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
