"""Peak memory of one text against its length, in each engine: what grows with its square, and what does not.

Each length runs in a process of its own. By default its model is an export as `sparseml export` writes it.

    python benchmarks/engine_memory.py deployment/model.onnx --lengths 512 2048 8192
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from record import keep, table
from resparse.console import run, say

_WORKER = """
import resource, sys
import numpy as np
from deepsparse import Engine

path, kind, length, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
engine = Engine(path, num_cores=threads, engine_type=kind)
tokens = {name: np.ones((1, length), np.int64) for name in engine.input_names}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine.run(tokens)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def measured(model: Path, engine: str, length: int, threads: int) -> float | None:
    """Memory that a first run adds to the process's peak, in MiB; None where it fails."""
    command = [sys.executable, "-c", _WORKER, str(model), engine, str(length), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"{engine}, {length:,} tokens: {(done.stderr.strip().splitlines() or ['it was ended'])[-1]}")
        return None
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and keep the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file that takes texts of these lengths")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--engines", nargs="+", default=["native", "onnxruntime"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most-others", type=int, default=2048, help="tokens for engines but the first")
    given = parser.parse_args()
    results, rows = [], []
    for length in given.lengths:
        row = [f"{length:,}"]
        for engine in given.engines:
            is_left_out = engine != given.engines[0] and length > given.most_others
            found = None if is_left_out else measured(given.model, engine, length, given.threads)
            row.append("-" if found is None else f"{found:,.0f} MiB")
            results.append({"tokens": length, "engine": engine, "mib": found})
        say(" | ".join(row))
        rows.append(row)
    about = f"What the first run of {given.model.stem} adds to the peak of a process that has loaded it."
    keep(
        "engine_memory",
        "Memory of one text",
        [about, table(["tokens", *given.engines], rows)],
        {"results": results},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
