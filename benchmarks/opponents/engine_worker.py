"""One model in one engine, in whatever environment has it: a line in lets it run some times, a line out says how long.

    python engine_worker.py ENGINE MODEL --threads N --batch B --length L [--precision bf16] [--clock cpu]

Needs numpy and the engine. The first line out tells the labels of sixteen probes, and DeepSparse's share of
operators that it runs itself.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

PROBES = 16
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def feed_of(batch, length, seed):
    """The same tokens for every engine, by input name."""
    ids = np.random.default_rng(seed).integers(1000, 2000, (batch, length))
    return dict(zip(NAMES, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=False))


def onnxruntime_engine(path, threads, batch, length, precision):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda feed: session.run(None, {name: feed[name] for name in names})[0], {}


def openvino_engine(path, threads, batch, length, precision):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    names = [value.any_name for value in compiled.inputs]
    return lambda feed: next(iter(request.infer({name: feed[name] for name in names}).values())), {}


def native_engine(path, threads, batch, length, precision):
    from deepsparse import Engine

    engine = Engine(path, num_cores=threads, engine_type="native")
    names = engine.input_names
    return lambda feed: engine.run({name: feed[name] for name in names})[0], {}


def deepsparse_engine(path, threads, batch, length, precision):
    from deepsparse import Engine

    shapes = [[batch, length]] * len(_inputs(path))
    engine = Engine(path, batch_size=batch, num_cores=threads, input_shapes=shapes)
    names = engine.input_names
    return lambda feed: engine.run([feed[name] for name in names])[0], {
        "fraction_of_supported_ops": engine.fraction_of_supported_ops
    }


def _inputs(path):
    import onnx

    model = onnx.load(path, load_external_data=False)
    return [value.name for value in model.graph.input]


def resident_mib():
    """What the process holds in memory now; None where that cannot be told."""
    try:
        with Path("/proc/self/status").open() as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    except OSError:
        return None


ENGINES = {
    "native": native_engine,
    "onnxruntime": onnxruntime_engine,
    "openvino": openvino_engine,
    "deepsparse": deepsparse_engine,
}
MODULES = {"native": ("tokenizers", "deepsparse.engine"), "deepsparse": ("deepsparse",)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--precision", default="")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--burst", type=int, default=5)
    asked = parser.parse_args()
    # What an engine prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    clock = time.process_time if asked.clock == "cpu" else time.perf_counter
    # Memory is counted from where the engine is there and the model is not.
    for module in MODULES.get(asked.engine, (asked.engine,)):
        importlib.import_module(module)
    before = resident_mib()
    started = time.perf_counter()
    run, facts = ENGINES[asked.engine](asked.model, asked.threads, asked.batch, asked.length, asked.precision)
    facts["load_seconds"] = time.perf_counter() - started
    labels = [
        int(label)
        for probe in range(PROBES)
        for label in np.asarray(run(feed_of(asked.batch, asked.length, probe))).argmax(axis=-1).flat
    ]
    if before is not None:
        facts["resident_mib"] = resident_mib() - before
    print(json.dumps({"labels": labels, **facts}), file=answers)
    feed = feed_of(asked.batch, asked.length, 0)
    for _ in sys.stdin:
        times = []
        for _ in range(asked.burst):
            started = clock()
            run(feed)
            times.append(clock() - started)
        print(json.dumps({"seconds": statistics.median(times), "best": min(times)}), file=answers)


if __name__ == "__main__":
    main()
