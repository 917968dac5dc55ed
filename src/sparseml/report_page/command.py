"""The verb `sparseml report`: a trained folder on the terminal, and as report.html."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from resparse.console import aligned, output, say
from resparse.files import write_text
from sparseml import report as reports
from sparseml.report_page.facts import Facts, export_size, read
from sparseml.report_page.latency import Latency, compare
from sparseml.report_page.page import page
from sparseml.report_page.request import PAGE


def report(given: Namespace) -> int:
    """Print and write the report of a folder, as `request` was asked for it."""
    folder = Path(given.folder)
    facts = read(folder)
    latency = None
    if facts.deployment is not None and given.latency:
        latency = compare(folder, facts.deployment, given.seconds)
    elif facts.deployment is not None:
        facts.missing.append("latency: not measured (--no-latency)")
    path = Path(given.output) if given.output else folder / PAGE
    write_text(path, page(facts, latency))
    show(facts, latency)
    say(f"page: {path}")
    return 0


def show(facts: Facts, latency: Latency | None) -> None:
    """Print tables: the main numbers, the layers, the scores by epoch; and what is not there."""
    output.print(reports.table(facts.report))
    for table in (_against_dense(facts, latency), _layers(facts), _scores(facts)):
        if table is not None:
            output.print()
            output.print(table)
    for evaluation in facts.evaluations:
        if evaluation.calibration is not None and "ece" in evaluation.calibration:
            error = evaluation.calibration["ece"]
            before = evaluation.calibration.get("before")
            was = f", {before['ece']:.1%} before its temperature" if before else ""
            say(
                f"calibration: expected error {error:.1%}{was}, on {evaluation.rows:,} rows ({evaluation.rows_called})"
            )
    for line in facts.missing:
        say(f"not here: {line}")


def _against_dense(facts: Facts, latency: Latency | None) -> object | None:
    rows = []
    size = export_size(facts)
    if size is not None:
        stored, dense = size["stored_bytes"], facts.report["totals"]["dense_bytes"]
        rows.append(
            ("model.onnx", f"{stored / 1e6:.1f} MB", f"{dense / 1e6:.1f} MB", f"{dense / stored:.1f}x")
        )
    if latency is not None:
        times = (f"{latency.deployed:.2f} ms", f"{latency.dense:.2f} ms")
        rows.append((f"latency, {latency.engine}", *times, f"{latency.dense / latency.deployed:.1f}x"))
    return aligned(rows, ("against dense", "this", "dense", "")) if rows else None


def _layers(facts: Facts) -> object:
    rows = [
        (
            layer["name"],
            " x ".join(map(str, layer["shape"])),
            f"{layer['sparsity']:.1%}",
            str(layer["weight_bits"]),
            str(layer["input_bits"]),
        )
        for layer in facts.report["layers"]
    ]
    return aligned(rows, ("layer", "shape", "zeros", "bits", "input bits"))


def _scores(facts: Facts) -> object | None:
    if not facts.scores:
        return None
    by_epoch: dict[float, dict[str, float]] = {}
    for series in facts.scores:
        for epoch, value in series.points:
            by_epoch.setdefault(epoch, {})[series.name] = value
    names = [series.name for series in facts.scores]
    rows = [
        (f"{epoch:g}", *(f"{values[name]:.4f}" if name in values else "" for name in names))
        for epoch, values in sorted(by_epoch.items())
    ]
    return aligned(rows, ("epoch", *names))
