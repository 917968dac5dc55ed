"""The native engine beside what else can be had: the same weights, each engine at its best form, taking turns.

BERT base at 90 % and MiniLM at 80 %, one text and sixteen of 128 tokens; then how much memory the model takes beyond
Python, the engine and the tokenizer, and how long it takes to load. Beside the sparse model our engine runs a dense
one, the same with its zeros filled. Forms and random weights are those of export_forms.py, whose folder is used. With
`--isa avx2`, ONNX Runtime runs twice: as it is, and held to AVX2 too.

    python benchmarks/engine.py --deepsparse-python OPPONENT/bin/python --openvino-python .venv/bin/python
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from deepsparse.native import library
from export_forms import make_model, write_files
from exported_zeros import filled
from held_onnxruntime import hold_to_avx2
from interleaved import Contestant, add_python, engine_contestant, measure, ratio
from processors import keep_here
from record import table
from resparse.console import run, say

MODELS = ("bert-base", "minilm")
LENGTH = 128

# Names of tables, by clock; both are set beside those of other processors.
ENGINE_TABLES = {"wall": "engine", "cpu": "engine_cpu"}

# Our time by theirs, at most, on whatever the processor has; and with the instruction set held to AVX-512.
BARS = {"deepsparse": 0.8, "onnxruntime": 0.25, "openvino": 0.5}
BARS_BY_ISA = {"avx512": {"deepsparse": 1.0}, "avx2": {"onnxruntime avx2": 0.6}}


def contestants_of(arguments: argparse.Namespace, folder: Path, batch: int) -> dict[str, Contestant]:
    """The engines that are here, each with its file."""
    native = {"DEEPSPARSE_CACHE": str(folder / "packed"), "DEEPSPARSE_ISA": arguments.isa or ""}
    wanted: list[tuple[str, str, Path | None, dict[str, str] | None]] = [
        ("native", "portable.onnx", None, native),
        ("native dense", "dense.onnx", None, native),
        ("onnxruntime", "portable.onnx", None, None),
    ]
    if arguments.isa == "avx2":
        held = hold_to_avx2(arguments.folder / "held")
        wanted.append(("onnxruntime avx2", "portable.onnx", None, {"PYTHONPATH": str(held.absolute())}))
    for engine in ("openvino", "deepsparse"):
        python = getattr(arguments, f"{engine}_python")
        if python is not None:
            file = "deepsparse.onnx" if engine == "deepsparse" else "portable.onnx"
            wanted.append((engine, file, python, None))
    return {
        name: engine_contestant(
            name,
            name.split()[0],
            folder / file,
            threads=arguments.threads,
            batch=batch,
            length=LENGTH,
            more=["--clock", arguments.clock],
            python=python,
            environment=environment,
        )
        for name, file, python, environment in wanted
    }


def measured(name: str, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All engines on one model at one size of batch."""
    folder = arguments.folder / name
    if not (folder / "portable.onnx").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{name}: writing")
        write_files(make_model(name, folder), folder, LENGTH)
    if not (folder / "dense.onnx").is_file():
        filled(folder / "portable.onnx", folder / "dense.onnx")
    say(f"{name}: {batch} x {LENGTH} tokens")
    contestants = contestants_of(arguments, folder, batch)
    measure(list(contestants.values()), arguments.rounds if batch == 1 else max(3, arguments.rounds // 4))
    labels = contestants["onnxruntime"].facts["labels"]
    return {
        "model": name,
        "batch": batch,
        "lanes": {
            engine: {
                "median_ms": 1e3 * statistics.median(contestant.seconds),
                "least_ms": 1e3 * min(contestant.seconds),
                "ours_by_theirs": ratio(contestants["native"], contestant),
                "same_labels": None if engine == "native dense" else share_of_same(contestant, labels),
                "resident_mib": contestant.facts.get("resident_mib"),
                "load_seconds": contestant.facts["load_seconds"],
            }
            for engine, contestant in contestants.items()
        },
    }


def share_of_same(contestant: Contestant, labels: list[int]) -> float:
    """The share of its labels that are these."""
    return sum(map(int.__eq__, contestant.facts["labels"], labels)) / len(labels)


def bars_table(results: list[dict[str, Any]], bars: dict[str, float]) -> str:
    """Our time by theirs."""
    header = [
        "native by ...",
        "wanted",
        *(f"{result['model']}, {result['batch']} x {LENGTH}" for result in results),
    ]
    engines = [engine for engine in results[0]["lanes"] if engine != "native"]
    rows = [
        [
            engine,
            f"≤ {bars[engine]}" if engine in bars else "",
            *(f"{result['lanes'][engine]['ours_by_theirs']:.2f}" for result in results),
        ]
        for engine in sorted(engines)
    ]
    return table(header, rows)


def lanes_table(results: list[dict[str, Any]]) -> str:
    """Times, throughput, memory and labels of every engine."""
    rows = [
        [
            f"{result['model']}, {result['batch']} x {LENGTH}: {engine}",
            f"{contestant['median_ms']:.2f}",
            f"{contestant['least_ms']:.2f}",
            f"{1e3 * result['batch'] / contestant['median_ms']:.1f}",
            "–" if contestant["same_labels"] is None else f"{contestant['same_labels']:.0%}",
            "–" if contestant["resident_mib"] is None else f"{contestant['resident_mib']:.0f} MiB",
            f"{contestant['load_seconds']:.2f} s",
        ]
        for result in results
        for engine, contestant in result["lanes"].items()
    ]
    header = ["", "median ms", "least ms", "items/s", "labels as ORT", "memory", "load"]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=24, help="counted bursts of five runs each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time, with one thread; on a machine that others use too, what a quiet one would take",
    )
    parser.add_argument(
        "--isa",
        choices=[one.name for one in library.instruction_sets()],
        help="hold the native engine to this one",
    )
    add_python(parser, "--openvino-python", "openvino")
    add_python(parser, "--deepsparse-python", "deepsparse 1.8.0")
    parser.add_argument("--folder", type=Path, default=Path("runs/export_forms"), help="for models and logs")
    arguments = parser.parse_args()
    results = [measured(name, batch, arguments) for name in arguments.models for batch in arguments.batches]
    # Held to an instruction set, the table is of one clock only.
    name = f"engine_{arguments.isa}" if arguments.isa else ENGINE_TABLES[arguments.clock]
    title = f"The native engine{f', held to {arguments.isa}' if arguments.isa else ''}"
    keep_here(
        name,
        f"{title}: {arguments.threads} {'threads' if arguments.threads > 1 else 'thread'}"
        f"{', processor time' if arguments.clock == 'cpu' else ''}, beside others on the same weights",
        [bars_table(results, BARS_BY_ISA.get(arguments.isa, BARS)), lanes_table(results)],
        {"results": results},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
