"""How much of what the processor can do the native engine's products reach, one thread.

The measure is a loop of nothing but multiply-adds on registers (peak.cpp). Zeros count as multiplied: a form that skips
them may reach more than all of the peak.

    python benchmarks/engine_peak.py
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse.native import library
from deepsparse.native.library import InstructionSet, WeightFormat
from record import keep, table
from resparse.console import run, say

SOURCES = Path(library.__file__).parent / "csrc"
SHAPES = ((768, 768), (3072, 768), (768, 3072))  # of a BERT base: outputs, inputs
TOKENS = (16, 64, 512)
ZEROS = {WeightFormat.DENSE: 0.0, WeightFormat.DENSE_OCTETS: 0.0}  # and of all others:
SPARSE = 0.9
GOAL = 0.6  # of AMX's peak, by dense products


def peaks() -> dict[InstructionSet, float]:
    """Multiply-adds a second of one thread, by instruction set."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        files = [str(Path(__file__).with_name("peak.cpp")), *map(str, SOURCES.rglob("*.cpp"))]
        subprocess.run(
            ["g++", "-O2", "-std=c++17", "-pthread", f"-I{SOURCES}", *files, "-o", str(program)], check=True
        )
        lines = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines()
    known = {one.isa: one for one in library.instruction_sets()}
    return {known[int(isa)]: float(rate) for isa, rate in map(str.split, lines)}


def rate(isa: InstructionSet, form: WeightFormat, rows: int, columns: int, tokens: int) -> float:
    """Multiply-adds a second of a product, zeros counted."""
    chance = np.random.default_rng(0)
    weights = chance.integers(-127, 128, (rows, columns), dtype=np.int8)
    weights[chance.random(weights.shape) < ZEROS.get(form, SPARSE)] = 0
    packed = library.aligned(library.packed_size(form, weights))
    library.pack(form, weights, packed)
    return rows * columns * tokens / library.seconds(isa, form, packed, rows, columns, tokens)


def measured() -> list[dict[str, Any]]:
    """Every instruction set with a peak, form, shape and number of tokens."""
    measurements = []
    for isa, peak in peaks().items():
        for form in isa.formats:
            say(f"{isa.name}, {form.name}")
            for rows, columns in SHAPES:
                rates = {tokens: rate(isa, form, rows, columns, tokens) for tokens in TOKENS}
                measurements.append(
                    {
                        "isa": isa.name.upper(),
                        "form": form.name,
                        "rows": rows,
                        "columns": columns,
                        "peak": peak,
                        "rates": rates,
                    }
                )
    return measurements


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    measurements = measured()
    header = [
        "instructions",
        "form",
        "zeros",
        "matrix",
        "peak, G/s",
        *(f"{count} tokens" for count in TOKENS),
    ]
    rows = [
        [
            str(one["isa"]).lower(),
            str(one["form"]).lower(),
            f"{ZEROS.get(WeightFormat[one['form']], SPARSE):.0%}",
            f"{one['rows']} x {one['columns']}",
            f"{one['peak'] / 1e9:.0f}",
            *(f"{one['rates'][count] / one['peak']:.0%}" for count in TOKENS),
        ]
        for one in measurements
    ]
    keep(
        "engine_peak",
        f"Products by what one thread can do (goal with AMX, dense: {GOAL:.0%})",
        [table(header, rows)],
        {"products": measurements},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
