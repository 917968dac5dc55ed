"""The native engine's time against the share of zeros and against the length of the text, beside ONNX Runtime's.

A BERT base whose int8 weights are set to zero by magnitude in the exported file, as far as each point asks; one text.
The model without zeros runs beside it at every point. Ratios are taken within rounds.

    python benchmarks/engine_sweep.py --deepsparse-python OPPONENT/bin/python
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from export_forms import make_model, write_files
from exported_zeros import pruned
from interleaved import Contestant, add_python, engine_contestant, measure, ratio
from processors import folder as results_folder
from processors import keep_here
from record import table
from resparse.console import run, say

ZEROS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
LENGTHS = (16, 32, 64, 128, 256, 512)
USUAL_ZEROS, USUAL_LENGTH = 0.9, 128


def contestants_at(
    folder: Path, zeros: float, length: int, arguments: argparse.Namespace
) -> dict[str, Contestant]:
    """The engines at one point."""
    contestants = {}
    for name, form, python, share in (
        ("native", "portable", None, zeros),
        ("native dense", "portable", None, 0.0),
        ("onnxruntime", "portable", None, zeros),
        ("deepsparse", "deepsparse", arguments.deepsparse_python, zeros),
    ):
        engine = name.split()[0]
        if engine == "deepsparse" and python is None:
            continue
        file = folder / f"{form}-{share}.onnx"
        if not file.is_file():
            pruned(folder / f"{form}.onnx", file, share)
        contestants[name] = engine_contestant(
            name,
            engine,
            file,
            threads=arguments.threads,
            batch=1,
            length=length,
            python=python,
            environment={"DEEPSPARSE_CACHE": ""} if engine == "native" else None,
        )
    return contestants


def points(
    folder: Path, places: Sequence[tuple[float, int]], arguments: argparse.Namespace
) -> dict[tuple[float, int], dict[str, Any]]:
    """Milliseconds of every engine at every point: the best median of some passes over all points.

    The engines of a point take turns, but points are minutes apart, and so long a busy machine may be slower for all.
    """
    best: dict[tuple[float, int], dict[str, float]] = {}
    ratios: dict[tuple[float, int], dict[str, list[float]]] = {}
    for number in range(arguments.passes):
        for zeros, length in places:
            say(f"pass {number + 1}: {zeros:.0%} zeros, {length} tokens")
            contestants = contestants_at(folder, zeros, length, arguments)
            measure(list(contestants.values()), arguments.rounds)
            times = {
                engine: 1e3 * statistics.median(contestant.seconds)
                for engine, contestant in contestants.items()
            }
            before = best.get((zeros, length), times)
            best[zeros, length] = {engine: min(taken, before[engine]) for engine, taken in times.items()}
            for engine, contestant in contestants.items():
                found = ratios.setdefault((zeros, length), {}).setdefault(engine, [])
                found.append(ratio(contestants["native"], contestant))
    return {
        place: {
            "zeros": place[0],
            "length": place[1],
            "ms": ms,
            "native_by": {engine: statistics.median(found) for engine, found in ratios[place].items()},
        }
        for place, ms in best.items()
    }


def lines_of(found: list[dict[str, Any]], key: str) -> str:
    """A table of one of the two sweeps."""
    engines = list(found[0]["ms"])
    others = [engine for engine in engines if engine != "native"]
    header = [key, *(f"{engine}, ms" for engine in engines), *(f"native by {engine}" for engine in others)]
    rows = [
        [
            f"{point['zeros']:.0%}" if key == "zeros" else str(point["length"]),
            *(f"{point['ms'][engine]:.2f}" for engine in engines),
            *(f"{point['native_by'][engine]:.2f}" for engine in others),
        ]
        for point in found
    ]
    return table(header, rows)


def plot(by_zeros: list[dict[str, Any]], by_length: list[dict[str, Any]], path: Path) -> None:
    """Both sweeps side by side."""
    path.parent.mkdir(exist_ok=True)
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, found, key in zip(axes, (by_zeros, by_length), ("zeros", "length"), strict=True):
        for engine in found[0]["ms"]:
            axis.plot(
                [point[key] for point in found],
                [point["ms"][engine] for point in found],
                marker="o",
                label=engine,
            )
        axis.set_ylabel("ms a text")
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].set_ylim(bottom=0)
    axes[0].set_xlabel(f"share of zeros ({USUAL_LENGTH} tokens)")
    axes[1].set_xlabel(f"tokens ({USUAL_ZEROS:.0%} zeros)")
    axes[1].set_xscale("log", base=2)
    axes[1].set_yscale("log")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="counted bursts of five runs each")
    parser.add_argument("--passes", type=int, default=2, help="over all points")
    parser.add_argument("--threads", type=int, default=2)
    add_python(parser, "--deepsparse-python", "deepsparse 1.8.0")
    parser.add_argument("--folder", type=Path, default=Path("runs/engine_sweep"), help="for models and logs")
    arguments = parser.parse_args()
    if find_spec("matplotlib") is None:
        parser.error("the plot needs matplotlib: pip install 'resparse[bench]'")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / "portable.onnx").is_file():
        say("writing a BERT base")
        write_files(make_model("bert-base", arguments.folder, 0.0), arguments.folder, USUAL_LENGTH)
    over_zeros = [(zeros, USUAL_LENGTH) for zeros in ZEROS]
    over_length = [(USUAL_ZEROS, length) for length in LENGTHS]
    # The point that is in both comes twice in each pass.
    found = points(arguments.folder, over_zeros + over_length, arguments)
    by_zeros, by_length = [found[place] for place in over_zeros], [found[place] for place in over_length]
    keep_here(
        "engine_sweep",
        f"The native engine against zeros and length: BERT base, one text, {arguments.threads} threads",
        [
            lines_of(by_zeros, "zeros"),
            lines_of(by_length, "length"),
            "![time against zeros and length](engine_sweep.png)",
        ],
        {"by_zeros": by_zeros, "by_length": by_length},
    )
    plot(by_zeros, by_length, results_folder() / "engine_sweep.png")


if __name__ == "__main__":
    raise SystemExit(run(main))
