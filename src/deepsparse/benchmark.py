"""The command `deepsparse.benchmark`: how fast a model runs here, and in which engine it runs fastest."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepsparse import backends, tasks
from deepsparse.command_line import Parser, normal_options
from deepsparse.deployment import onnx_file, open_deployment
from deepsparse.errors import EngineError
from deepsparse.hardware import cpu_model, isa
from deepsparse.workload import Settings, Timings, Workload, measure, parse_shapes, prepare, read_texts
from resparse.console import aligned, output, run, say, warn
from resparse.errors import UserError
from resparse.files import write_json
from resparse.progress import track, waiting

_SCENARIOS = {
    "sync": "sync",
    "singlestream": "sync",
    "async": "async",
    "multistream": "async",
    "elastic": "elastic",
}
# Engines take turns, so that other load on the machine affects all alike.
_ROUNDS = 5
_EXAMPLE = """\
for example:
  deepsparse.benchmark deployment/ -b 16 -seq_len 64
  deepsparse.benchmark deployment/ --compare --text tweets.csv"""


def cli() -> int:
    """Run the command with the process's arguments."""
    return run(lambda: main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Measure, and print what was measured."""
    arguments = _parser().parse_args(normal_options(words))
    if arguments.pytorch:
        os.environ[backends.CHECKPOINT] = arguments.pytorch
    for name in ("thread_pinning", "kv_cache"):
        if getattr(arguments, name):
            warn(f"{name.replace('_', ' ')} has no effect on a text classifier here")
    settings = _settings(arguments)
    report = (_compare if arguments.compare else _single)(settings, arguments)
    if arguments.export_path:
        write_json(Path(arguments.export_path), report)
        say(f"written to {arguments.export_path}")
    return 0


def _single(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """One engine, reported as DeepSparse does."""
    with waiting("loading"):
        workload = prepare(settings, arguments.engine)
    timings = _timed(workload, settings, arguments.time, arguments.warmup_time)
    summary = timings.summary()
    lines = {"Original Model Path": arguments.model, "Batch Size": settings.batch_size}
    if settings.sequence_length:
        lines["Sequence Length"] = settings.sequence_length
    lines |= {
        "Scenario": _SCENARIOS[arguments.scenario],
        "Throughput (items/sec)": f"{summary['items_per_sec']:.4f}",
        "Latency Mean (ms/batch)": f"{summary['mean']:.4f}",
        "Latency Median (ms/batch)": f"{summary['median']:.4f}",
        "Latency Std (ms/batch)": f"{summary['std']:.4f}",
        "Iterations": summary["iterations"],
    }
    if not arguments.quiet:
        output.print("\n".join(f"{name}: {value}" for name, value in lines.items()))
    engine = workload.engine
    return {
        "engine": engine.engine_type,
        "version": engine.version,
        "model": str(engine.model_path),
        "batch_size": settings.batch_size,
        "sequence_length": settings.sequence_length,
        "scenario": _SCENARIOS[arguments.scenario],
        "scheduler": settings.scheduler,
        "num_cores": engine.num_cores,
        "num_streams": engine.num_streams,
        "cpu": cpu_model(),
        "isa": isa(),
        "benchmark_result": summary,
    }


def _compare(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """All engines that are installed, in one table."""
    workloads = _loaded(settings)
    totals = {name: Timings(workload.items) for name, workload in workloads.items()}
    for workload in workloads.values():
        _timed(workload, settings, 0, arguments.warmup_time)
    turns = [name for _ in range(_ROUNDS) for name in workloads]
    for name in track(turns, "measuring"):
        totals[name].add(_timed(workloads[name], settings, arguments.time / _ROUNDS, 0))
    best = min(timings.milliseconds(50) for timings in totals.values())
    rows = [
        [
            name,
            workloads[name].engine.version,
            f"{timings.milliseconds(50):.2f}",
            f"{timings.milliseconds(95):.2f}",
            f"{timings.items_per_second:.1f}",
            f"{timings.milliseconds(50) / best:.2f}",
        ]
        for name, timings in sorted(totals.items(), key=lambda entry: entry[1].milliseconds(50))
    ]
    cores = next(iter(workloads.values())).engine.num_cores
    what = f"{len(settings.texts):,} texts, from text to label" if settings.texts else "made-up tokens"
    title = f"{what}; batch {settings.batch_size}; {cpu_model()}, {cores} cores, {isa()}"
    output.print(
        aligned(rows, ["engine", "version", "median ms", "p95 ms", "items/s", "ratio"], title, left=(0, 1))
    )
    return {
        "cpu": cpu_model(),
        "isa": isa(),
        "num_cores": cores,
        "engines": {
            name: {"version": workloads[name].engine.version, **timings.summary()}
            for name, timings in totals.items()
        },
    }


def _loaded(settings: Settings) -> dict[str, Workload]:
    """Every installed engine that can load the model; a warning for each that cannot."""
    workloads = {}
    for name in track(backends.installed(), "loading"):
        try:
            workloads[name] = prepare(settings, name)
        except UserError as error:
            warn(f"without {name}: {error}")
    if not workloads:
        raise EngineError("No engine can run this model here.")
    return workloads


def _timed(workload: Workload, settings: Settings, seconds: float, warmup: float) -> Timings:
    streams = workload.engine.num_streams
    # A pipeline distributes each call over its streams itself.
    callers = 1 if settings.scheduler == "sync" or settings.texts is not None else streams
    if warmup:
        with waiting("warming up"):
            measure(workload.work, warmup, workload.items, callers)
    if not seconds:
        return Timings(workload.items)
    with waiting("measuring"):
        return measure(workload.work, seconds, workload.items, callers)


def _settings(arguments: argparse.Namespace) -> Settings:
    onnx_file(arguments.model)
    rows = None
    if arguments.text:
        deployment = open_deployment(arguments.model)
        rows = read_texts(Path(arguments.text), tasks.of_deployment(deployment), deployment.text_columns())
    return Settings(
        arguments.model,
        arguments.batch_size,
        arguments.sequence_length,
        parse_shapes(arguments.input_shapes) if arguments.input_shapes else None,
        rows,
        arguments.num_cores,
        arguments.num_streams,
        _SCENARIOS[arguments.scenario],
    )


def _parser() -> Parser:
    parser = Parser("deepsparse.benchmark", "Measure how fast a model runs.", _EXAMPLE)
    add = parser.add_argument
    add("model", help="a deployment folder, an .onnx file, or a zoo: stub")
    add("-b", "--batch-size", type=parser.count, default=1, help="rows in one run [%(default)s]")
    add("-seq_len", "--sequence-length", type=parser.count, help="tokens a row, or the most of a text [128]")
    add("-shapes", "--input-shapes", help="shapes of all inputs: [1,128],[1,128]")
    add("-ncores", "--num-cores", type=parser.count, help="threads that compute [all cores]")
    add("-nstreams", "--num-streams", type=parser.count, help="runs side by side, where not sync")
    add("-s", "--scenario", choices=_SCENARIOS, default="sync", help="one run at a time, or several [sync]")
    add("-t", "--time", type=parser.seconds, default=10.0, help="seconds to measure [%(default)g]")
    add("-w", "--warmup-time", type=parser.seconds, default=2.0, help="seconds before that [%(default)g]")
    add(
        "-e",
        "--engine",
        default=backends.AUTOMATIC,
        help="native, onnxruntime, openvino, pytorch, or path.py:Class",
    )
    add("-q", "--quiet", action="store_true", help="print no results")
    add("-x", "--export-path", help="write the results to a JSON file")
    add("--compare", action="store_true", help="every engine that is installed, side by side")
    add(
        "--text",
        metavar="FILE",
        help="from text to label, on the rows of a CSV, TSV, JSON Lines or text file",
    )
    add("--pytorch", metavar="DIR", help="the checkpoint that was exported, for the engine pytorch")
    add("-pin", "--thread-pinning", choices=("core", "numa", "none"), help="accepted, without effect")
    add("-input_ids_len", "--input-ids-length", type=parser.count, help=argparse.SUPPRESS)
    for option in ("--no-internal-kv-cache", "--disable-kv-cache-overrides"):
        add(option, dest="kv_cache", action="store_true", help=argparse.SUPPRESS)
    add("--num-kv-cache-tokens", type=parser.count, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(cli())
