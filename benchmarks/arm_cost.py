"""What the native engine's kernels for ARM cost, counted in the compiled code: nothing here needs, or times, an ARM.

The innermost loops of the kernels are found in their disassembly, and their instructions counted by the execution units
that they need. From the units of a processor follows the least number of cycles that a loop takes, if nothing waits:
`PROCESSORS`. From that the time of a BERT base, one text, is added up.

    python benchmarks/arm_cost.py

Facts about processors: Arm's Software Optimization Guides of Neoverse V1 (PJDOC-466751330-9685) and N1
(PJDOC-466751330-9707), after which LLVM's AArch64SchedNeoverseV1.td and ...N1.td are made, from which they are taken
here; table lookups on V1, which LLVM has as two operations and Arm as one, are reckoned by Arm's. Decoder of N1:
WikiChip. Frequencies and vector units: AWS Graviton Technical Guide.
"""

from __future__ import annotations

import argparse
import platform
import re
import runpy
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from deepsparse.native import library
from deepsparse.native.library import WeightFormat
from record import keep, table
from resparse.console import run
from resparse.errors import UserError

ROOT = Path(__file__).parents[1]
SOURCES = Path(library.__file__).parent / "csrc"
CROSS = "" if platform.machine() in ("aarch64", "arm64") else "aarch64-linux-gnu-"

HIDDEN, WIDE, HEADS, LAYERS = 768, 3072, 12, 12  # BERT base
SHAPES = {(HIDDEN, HIDDEN): 4, (WIDE, HIDDEN): 1, (HIDDEN, WIDE): 1}  # outputs, inputs: how many a layer has
ZEROS = (0.8, 0.9)
TOKENS = 128
LANES = 4  # floats in a register


@dataclass(frozen=True)
class Processor:
    """Operations that begin in a cycle, by the units that they need; a load is of 16 bytes."""

    name: str
    gigahertz: float
    instruction_sets: tuple[str, ...]
    vector: int  # all operations on vectors
    permute: int  # of these, table lookups
    multiply: int  # and multiplications and conversions of integers
    shift: int  # and shifts and pairwise additions
    load: int
    decode: int  # all instructions


PROCESSORS = (
    Processor("Graviton 3 (Neoverse V1)", 2.6, ("neon", "dotprod", "i8mm"), 4, 2, 2, 2, 3, 8),
    Processor("Graviton 2 (Neoverse N1)", 2.5, ("neon", "dotprod"), 2, 2, 1, 1, 2, 4),
)

PRODUCTS = {"sdot", "usdot", "sudot", "usmmla", "smull", "smull2"}
MULTIPLIERS = {"smull": 1, "smull2": 1, "mul": 1, "mla": 1, "scvtf": 2}  # and how many operations each is
SHIFTERS = {"sadalp", "shl", "sshr", "ushr"}
LOOKUPS = {1: 1, 2: 1, 3: 2, 4: 3}  # operations by registers of the table


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str

    def target(self) -> int | None:
        """Where it jumps to."""
        found = re.search(r"\b([0-9a-f]+) <", self.operands)
        is_jump = self.name.startswith("b.") or self.name in ("b", "cbz", "cbnz", "tbz", "tbnz")
        return int(found.group(1), 16) if is_jump and found else None

    def list_size(self) -> int:
        """Registers of its list in braces, which is written {v0.16b, v1.16b} or {v0.16b-v3.16b}."""
        numbers = [int(one) for one in re.findall(r"\bv(\d+)\.", _braces(self.operands))]
        return (numbers[-1] - numbers[0]) % 32 + 1 if numbers else 0


def _braces(operands: str) -> str:
    return operands.partition("{")[2].partition("}")[0]


class Loop:
    """An innermost loop, and what its instructions need."""

    def __init__(self, body: Sequence[Instruction]) -> None:
        self.names = Counter(one.name for one in body)
        self.needs: Counter[str] = Counter(decode=len(body))
        self.loaded = 0
        for one in body:
            self._count(one)

    def _count(self, one: Instruction) -> None:
        registers = one.list_size()
        if one.name.startswith("ld"):
            pieces = registers if one.name == "ld1" else 2 if one.name == "ldp" else 1
            self.needs["load"] += pieces
            self.needs["vector"] += one.name == "ld1r"
            self.loaded += _bytes(one) * pieces
        elif one.name.startswith("st"):
            self.needs.update(load=2 if one.name == "stp" else 1, vector=1)
        elif re.match(r"[vsdq]\d+", one.operands):
            lookups = LOOKUPS[registers] if one.name == "tbl" else 0
            self.needs["vector"] += lookups or MULTIPLIERS.get(one.name, 1)
            self.needs["permute"] += lookups
            self.needs["multiply"] += MULTIPLIERS.get(one.name, 0)
            self.needs["shift"] += one.name in SHIFTERS

    def products(self) -> int:
        """Instructions that multiply."""
        return sum(self.names[name] for name in PRODUCTS)

    def cycles(self, processor: Processor) -> float:
        """The least that it takes: by the units that are the busiest."""
        return max(need / getattr(processor, unit) for unit, need in self.needs.items())


def _bytes(load: Instruction) -> int:
    """Of each register that it loads."""
    sizes = {"q": 16, "v": 16, "d": 8, "x": 8, "s": 4, "w": 4}
    if load.name in ("ldrh", "ld1r"):
        return 2 if load.name == "ldrh" else 4
    return sizes[load.operands.lstrip("{ ")[0]]


def compiled(instruction_set: str, folder: Path) -> Path:
    """The object file of its kernels, with the flags of an installation."""
    compiler = f"{CROSS}g++"
    if shutil.which(compiler) is None:
        raise UserError(f"There is no {compiler}: apt install g++-aarch64-linux-gnu")
    with mock.patch("setuptools.setup"):
        flags = runpy.run_path(str(ROOT / "setup.py"))["FLAGS"]
    source = SOURCES / "kernels" / "arm" / f"{instruction_set}.cpp"
    made = folder / f"{instruction_set}.o"
    subprocess.run([compiler, *flags, f"-I{SOURCES}", "-c", str(source), "-o", str(made)], check=True)
    return made


def compiler_version() -> str:
    shown = subprocess.run([f"{CROSS}g++", "--version"], check=True, capture_output=True, text=True).stdout
    return shown.splitlines()[0]


def disassembled(made: Path) -> str:
    command = [f"{CROSS}objdump", "-d", "--no-show-raw-insn", "-C", str(made)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def loops(text: str) -> dict[str, list[Loop]]:
    """The innermost loops of each function in a disassembly, by its name without namespaces and arguments."""
    found: dict[str, list[Loop]] = {}
    for name, code in re.findall(r"^[0-9a-f]+ <([^\n]*)>:\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL):
        lines = re.findall(r"^ *([0-9a-f]+):\t(\S+)(?:\t([^\n]*))?", code, re.MULTILINE)
        body = [Instruction(int(at, 16), what, operands) for at, what, operands in lines]
        function = re.sub(r"\(.*", "", name).split("::")[-1]
        found.setdefault(function, []).extend(Loop(one) for one in _innermost(body))
    return found


def _innermost(body: Sequence[Instruction]) -> list[list[Instruction]]:
    ends = [one for one in body if (target := one.target()) is not None and target < one.address]
    ranges = [(target, one.address) for one in ends if (target := one.target()) is not None]
    inner = [
        (first, last)
        for first, last in ranges
        if not any(first <= other[0] and other[1] < last for other in ranges)
    ]
    return [[one for one in body if first <= one.address <= last] for first, last in inner]


@dataclass(frozen=True)
class Product:
    """A form of weights, the function that multiplies it, and its tokens at once."""

    instruction_set: str
    form: WeightFormat
    function: str
    tokens: int

    @property
    def is_dense(self) -> bool:
        return self.form.name.startswith("DENSE")

    def multiply_adds(self, zeros: float, rows: int, columns: int) -> float:
        """Of a token in one run of the loop, zeros counted."""
        if self.is_dense:
            return 16 * library.PANEL_ROWS  # of 16 columns
        return rows * columns / slots(rows, columns, zeros)


FORMS = (
    Product("neon", WeightFormat.DENSE, "multiply_dense", 2),
    Product("neon", WeightFormat.SLOTS32, "multiply_slots_by<4u>", 4),
    Product("dotprod", WeightFormat.DENSE, "multiply_dense", 4),
    Product("dotprod", WeightFormat.SLOTS32, "multiply_slots_by<8u>", 8),
    Product("i8mm", WeightFormat.DENSE_OCTETS, "multiply_octets_by<2u>", 4),
    Product("i8mm", WeightFormat.SLOTS32, "multiply_slots_by<8u>", 8),
)
ATTENTION_TOKENS = {"neon": 2, "dotprod": 4, "i8mm": 4}


def slots(rows: int, columns: int, zeros: float) -> int:
    """How many slots a random matrix takes."""
    chance = np.random.default_rng(0)
    weights = chance.integers(1, 128, (rows, columns), dtype=np.int8)
    weights[chance.random(weights.shape) < zeros] = 0
    packed = library.aligned(library.packed_size(WeightFormat.SLOTS32, weights))
    library.pack(WeightFormat.SLOTS32, weights, packed)
    starts = packed[4 * library.padded(rows) :].view(np.uint32)
    return int(starts[library.padded(rows) // 8])


def busiest(candidates: Sequence[Loop]) -> Loop:
    """The loop of the whole tile."""
    return max(candidates, key=Loop.products)


Has = Callable[[Loop], bool]

# What else a layer does: the function, how its loop is known, values in one run of it, and values of a token.
REST: tuple[tuple[str, Has, int, int], ...] = (
    ("requantize", lambda loop: loop.names["tbl"] > 0, LANES, WIDE),  # with GELU
    ("requantize", lambda loop: loop.names["uzp1"] > 0 and loop.needs["decode"] < 16, LANES, 3 * HIDDEN),
    ("dequantize", lambda loop: loop.names["fadd"] > 0, LANES, 2 * HIDDEN),
    ("normalize", lambda loop: loop.names["fadd"] == 4, 4 * LANES, 2 * HIDDEN),
    ("normalize", lambda loop: loop.names["fmla"] == 4, 4 * LANES, 2 * HIDDEN),
    ("normalize", lambda loop: loop.names["str"] == 2 and loop.names["uzp1"] > 0, LANES, 2 * HIDDEN),
    ("softmax", lambda loop: loop.names["smax"] > 0, LANES, HEADS * TOKENS),
    ("softmax", lambda loop: loop.names["fmla"] >= 6, LANES, HEADS * TOKENS),
    ("softmax", lambda loop: loop.names["uzp1"] > 0, LANES, HEADS * TOKENS),
)


def cycles_of_layer(
    found: dict[str, list[Loop]], product: Product, zeros: float, processor: Processor
) -> dict[str, float]:
    """Cycles of a token in a layer, by what they are for."""
    loop = busiest(found[product.function])
    products = sum(
        count * rows * columns / product.multiply_adds(zeros, rows, columns) / product.tokens
        for (rows, columns), count in SHAPES.items()
    )
    attention = busiest(found["multiply_dense"])
    scores = 2 * TOKENS * HIDDEN / (16 * library.PANEL_ROWS) / ATTENTION_TOKENS[product.instruction_set]
    rest = 0.0
    for function, is_it, values, count in REST:
        one = min(filter(is_it, found[function]), key=lambda loop: loop.needs["decode"])
        rest += one.cycles(processor) * count / values
    return {
        "products": products * loop.cycles(processor),
        "attention": scores * attention.cycles(processor),
        "rest": rest,
    }


def loop_row(product: Product, loop: Loop, zeros: float, rows: int, columns: int) -> dict[str, Any]:
    multiply_adds = product.multiply_adds(zeros, rows, columns) * product.tokens
    return {
        "instruction_set": product.instruction_set,
        "form": product.form.name,
        "zeros": zeros,
        "tokens": product.tokens,
        "multiply_adds": multiply_adds,
        "instructions": loop.needs["decode"],
        "products": loop.products(),
        "lookups": loop.names["tbl"],
        "bytes": loop.loaded,
        "cycles": {one.name: loop.cycles(one) for one in _with(product)},
    }


def _with(product: Product) -> list[Processor]:
    return [one for one in PROCESSORS if product.instruction_set in one.instruction_sets]


def _zeros(product: Product) -> tuple[float, ...]:
    return (0.0,) if product.is_dense else ZEROS


def counted() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The loops of the products, and the time of whole models."""
    products, models = [], []
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: loops(disassembled(compiled(name, Path(folder))))
            for name in dict.fromkeys(p.instruction_set for p in FORMS)
        }
    for product in FORMS:
        code = found[product.instruction_set]
        for zeros in _zeros(product):
            products.append(loop_row(product, busiest(code[product.function]), zeros, HIDDEN, HIDDEN))
            for processor in _with(product):
                layer = cycles_of_layer(code, product, zeros, processor)
                seconds = sum(layer.values()) * LAYERS * TOKENS / processor.gigahertz / 1e9
                models.append(
                    {
                        "processor": processor.name,
                        "instruction_set": product.instruction_set,
                        "form": product.form.name,
                        "zeros": zeros,
                        "cycles": layer,
                        "ms": 1e3 * seconds,
                    }
                )
    return products, models


def product_table(products: Sequence[dict[str, Any]]) -> str:
    header = ["instructions", "form", "zeros", "tokens", "loop", "products", "lookups", "multiply-adds"]
    header += ["per instruction", "bytes per 1,000"]
    header += [f"per cycle, {one.name.partition(' (')[0]}" for one in PROCESSORS]
    rows = []
    for one in products:
        work = one["multiply_adds"]
        rates = [one["cycles"].get(processor.name) for processor in PROCESSORS]
        rows.append(
            [
                one["instruction_set"],
                one["form"].lower(),
                f"{one['zeros']:.0%}",
                str(one["tokens"]),
                *(str(one[name]) for name in ("instructions", "products", "lookups")),
                f"{work:,.0f}",
                f"{work / one['instructions']:.1f}",
                f"{1000 * one['bytes'] / work:.0f}",
                *("" if cycles is None else f"{work / cycles:.0f}" for cycles in rates),
            ]
        )
    return table(header, rows)


def model_table(models: Sequence[dict[str, Any]]) -> str:
    header = [
        "processor",
        "instructions",
        "form",
        "zeros",
        "products",
        "attention",
        "rest",
        "ms, 1 core",
        "2 cores",
    ]
    rows = [
        [
            one["processor"],
            one["instruction_set"],
            one["form"].lower(),
            f"{one['zeros']:.0%}",
            *(f"{one['cycles'][part]:,.0f}" for part in ("products", "attention", "rest")),
            f"{one['ms']:.1f}",
            f"{one['ms'] / 2:.1f}",
        ]
        for processor in PROCESSORS
        for one in sorted(models, key=lambda one: -float(one["ms"]))
        if one["processor"] == processor.name
    ]
    return table(header, rows)


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    products, models = counted()
    keep(
        "arm_cost",
        "The kernels for ARM, counted: the least that they can take, not measured",
        [
            "Innermost loops of products, zeros counted as multiplied; 768 x 768, random zeros. Compiled by "
            f"{compiler_version()}.",
            product_table(products),
            f"A BERT base, one text of {TOKENS} tokens: cycles of a token and layer, and the time that they add up to.",
            model_table(models),
        ],
        {"products": products, "models": models},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
