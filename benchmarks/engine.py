"""The native engine beside what else can be had: the same weights, each engine at its best form, taking turns.

BERT base at 90 % and MiniLM at 80 %, one text and sixteen of 128 tokens; then how much memory the model takes beyond
Python, the engine and the tokenizer, and how long it takes to load. Forms and random weights are those of
export_forms.py, whose folder is used.

    python benchmarks/engine.py --deepsparse-python OPPONENT/bin/python --openvino-python .venv/bin/python
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from deepsparse.native import library
from export_forms import make_model, write_files
from interleaved import Contestant, add_python, engine_contestant, measure, ratio
from record import keep, table
from resparse.console import run, say

MODELS = ("bert-base", "minilm")
LENGTH = 128

# Our time by theirs, at most, on whatever the processor has; and with the instruction set held to AVX-512.
BARS = {"deepsparse": 0.8, "onnxruntime": 0.25, "openvino": 0.5}
BARS_BY_ISA = {"avx512": {"deepsparse": 1.0}, "avx2": {"onnxruntime": 0.6}}


def contestants_of(arguments: argparse.Namespace, folder: Path, batch: int) -> dict[str, Contestant]:
    """The engines that are here, each with its file."""
    wanted = [
        ("native", "portable.onnx", None),
        ("onnxruntime", "portable.onnx", None),
        ("openvino", "portable.onnx", arguments.openvino_python),
        ("deepsparse", "deepsparse.onnx", arguments.deepsparse_python),
    ]
    contestants = {}
    for engine, file, python in wanted:
        if python is None and engine in ("openvino", "deepsparse"):
            continue
        environment = {"DEEPSPARSE_CACHE": str(folder / "packed"), "DEEPSPARSE_ISA": arguments.isa or ""}
        contestants[engine] = engine_contestant(
            engine,
            engine,
            folder / file,
            threads=arguments.threads,
            batch=batch,
            length=LENGTH,
            python=python,
            environment=environment if engine == "native" else None,
        )
    return contestants


def measured(name: str, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All engines on one model at one size of batch."""
    folder = arguments.folder / name
    if not (folder / "portable.onnx").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{name}: writing")
        write_files(make_model(name, folder), folder, LENGTH)
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
                "same_labels": sum(map(int.__eq__, contestant.facts["labels"], labels)) / len(labels),
                "resident_mib": contestant.facts.get("resident_mib"),
                "load_seconds": contestant.facts["load_seconds"],
            }
            for engine, contestant in contestants.items()
        },
    }


def bars_table(results: list[dict[str, Any]], bars: dict[str, float]) -> str:
    """Our time by theirs."""
    header = [
        "native by ...",
        "wanted",
        *(f"{result['model']}, {result['batch']} x {LENGTH}" for result in results),
    ]
    rows = []
    for engine in ("deepsparse", "onnxruntime", "openvino"):
        found = [result["lanes"].get(engine) for result in results]
        rows.append(
            [
                engine,
                f"≤ {bars[engine]}" if engine in bars else "",
                *(
                    "–" if contestant is None else f"{contestant['ours_by_theirs']:.2f}"
                    for contestant in found
                ),
            ]
        )
    return table(header, rows)


def lanes_table(results: list[dict[str, Any]]) -> str:
    """Times, throughput, memory and labels of every engine."""
    rows = [
        [
            f"{result['model']}, {result['batch']} x {LENGTH}: {engine}",
            f"{contestant['median_ms']:.2f}",
            f"{contestant['least_ms']:.2f}",
            f"{1e3 * result['batch'] / contestant['median_ms']:.1f}",
            f"{contestant['same_labels']:.0%}",
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
        "--isa",
        choices=[one.name for one in library.instruction_sets()],
        help="hold the native engine to this one",
    )
    add_python(parser, "--openvino-python", "openvino")
    add_python(parser, "--deepsparse-python", "deepsparse 1.8.0")
    parser.add_argument("--folder", type=Path, default=Path("runs/export_forms"), help="for models and logs")
    arguments = parser.parse_args()
    results = [measured(name, batch, arguments) for name in arguments.models for batch in arguments.batches]
    name = f"engine_{arguments.isa}" if arguments.isa else "engine"
    title = f"The native engine{f', held to {arguments.isa}' if arguments.isa else ''}"
    keep(
        name,
        f"{title}: {arguments.threads} threads, beside others on the same weights",
        [bars_table(results, BARS_BY_ISA.get(arguments.isa, BARS)), lanes_table(results)],
        {"results": results},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
