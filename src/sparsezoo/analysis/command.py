"""The command `sparsezoo.analyze`, and the verb `sparsezoo analyze`."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from resparse.console import aligned, run, say
from resparse.files import whole_file, write_json, write_text
from sparsezoo.analysis import Analysis, Totals, analyze
from sparsezoo.common import ZooError

_DEFAULT = "analysis.yaml"
_WIDTH = 1000
_FORMATS = (".json", ".csv", ".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="sparsezoo.analyze", description="What a model is made of.")
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    return run(lambda: execute(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "model", help="an .onnx or .safetensors file, a folder with one, a zoo: stub or a Hub id"
    )
    compare = "other models, separated by commas, to set beside it"
    parser.add_argument("--compare", metavar="MODEL,...", help=compare)
    save = f"write the analysis: {', '.join(_FORMATS)} by its ending; into a folder as {_DEFAULT}"
    parser.add_argument("--save", metavar="FILE", help=save)
    parser.add_argument("--by-types", "--by_types", action="store_true", help="a line for each operator only")


def execute(arguments: argparse.Namespace) -> int:
    """Analyze, print, and save."""
    target = _target(arguments.save)
    analysis = analyze(arguments.model)
    others = [analyze(name.strip()) for name in (arguments.compare or "").split(",") if name.strip()]
    tables = [_types(analysis), _totals([analysis, *others])]
    wide = Console(width=_WIDTH, highlight=False)  # lines are never wrapped, so that they can be piped
    for index, table in enumerate(tables if arguments.by_types else [_layers(analysis), *tables]):
        if index:
            wide.print()
        wide.print(table)
    if target is not None:
        _save(analysis, target)
        say(f"saved: {target}")
    return 0


def _target(save: str | None) -> Path | None:
    """Where to save, checked before anything is read."""
    if save is None:
        return None
    path = Path(save) / _DEFAULT if Path(save).is_dir() else Path(save)
    if path.suffix not in _FORMATS:
        raise ZooError(
            f"--save {save}: the ending says the format, and must be one of {', '.join(_FORMATS)}."
        )
    return path


def _save(analysis: Analysis, path: Path) -> None:
    value = analysis.as_json()
    if path.suffix == ".json":
        write_json(path, value)
    elif path.suffix == ".csv":
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = value["layers"]
            shown = [{**row, "shape": "x".join(map(str, row["shape"]))} for row in rows]
            writer = csv.DictWriter(file, list(shown[0]) if shown else ["name"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(shown)
    else:
        write_text(path, yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True))


def _layers(analysis: Analysis) -> Table:
    """A line for each matrix; of biases and norms there are sums, and lines in what is saved."""
    rows = [
        (
            layer.name,
            layer.op,
            " x ".join(map(str, layer.shape)),
            f"{layer.parameters:,}",
            f"{layer.sparsity:.1%}",
            str(layer.bits),
            f"{layer.operations:,}",
            f"{layer.sparse_operations:,}",
        )
        for layer in analysis.layers
        if len(layer.shape) > 1
    ]
    header = ("layer", "op", "shape", "parameters", "zeros", "bits", "ops a token", "without zeros")
    return aligned(rows, header, left=(0, 1))


def _types(analysis: Analysis) -> Table:
    rows = [
        (
            op,
            str(sums.layers),
            f"{sums.parameters:,}",
            f"{sums.zeros / max(sums.parameters, 1):.1%}",
            *_ops(sums),
        )
        for op, sums in analysis.by_op().items()
    ]
    without = [op for op in analysis.nodes if op not in analysis.by_op()]
    if without:
        rows.append(("without weights", str(sum(analysis.nodes[op] for op in without)), "", "", "", ""))
    return aligned(rows, ("op", "number", "parameters", "zeros", "ops a token", "without zeros"))


def _ops(sums: Totals) -> tuple[str, str]:
    return f"{sums.operations:,}", f"{sums.sparse_operations:,}"


def _totals(analyses: Sequence[Analysis]) -> Table:
    sums = [analysis.totals for analysis in analyses]
    rows = [(name, *(text(entry) for entry in sums)) for name, text in _lines()]
    return aligned(rows, ("total", *(analysis.source for analysis in analyses)))


def _lines() -> Iterator[tuple[str, Any]]:
    """The lines of the totals: name, and text of a model's."""
    yield "parameters", lambda sums: f"{sums.parameters:,}"
    yield "in matrices", lambda sums: f"{sums.prunable_parameters:,}"
    yield "zeros in matrices", lambda sums: f"{sums.sparsity:.2%}"
    yield "in 8 bits or fewer", lambda sums: f"{sums.quantized:.2%}"
    yield "ops a token, dense", lambda sums: f"{sums.operations:,}"
    yield "ops a token, sparse", lambda sums: f"{sums.sparse_operations:,}"
    yield "size, dense float32", lambda sums: f"{sums.dense_bytes / 1e6:.1f} MB"
    yield "size as stored in its bits", lambda sums: f"{sums.bytes / 1e6:.1f} MB"
