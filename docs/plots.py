"""The plots of benchmarks.md, from the tables' numbers in benchmarks/results: `python docs/generate.py` writes them.

SVG text of a few kilobytes, which takes light or dark colors from the system of who looks at it.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from accuracy_table import Outcomes
from record import RESULTS
from sparseml.report_page import svg

_WIDTH = 400  # small, so that letters stay legible on a telephone
_HEAD = 22  # of the line of names above a plot
# What the training's page draws with, too.
_STYLE = resources.files("sparseml.report_page").joinpath("page.css").read_text(encoding="utf-8")
_PALETTES = re.findall(r":root \{(.*?)\}", _STYLE, re.DOTALL)
_RULES = """
svg.plot text { fill: var(--soft); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums }
svg.plot .grid { stroke: var(--rule) }
svg.plot .line { fill: none; stroke-width: 2; stroke-linejoin: round }
"""
_ENGINES = {
    "native": "native",
    "deepsparse": "DeepSparse 1.8",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
}
_STARTS = {"dense": "dense, float", "pruned80": "80 % zeros, int8", "pruned90": "90 % zeros, int8"}
_SETS = {
    "glue_cola": "CoLA",
    "glue_mrpc": "MRPC",
    "glue_rte": "RTE",
    "glue_stsb": "STS-B",
    "go_emotions": "GoEmotions",
    "sick": "SICK",
    "snli_subset": "SNLI",
    "trec": "TREC",
    "tweeteval_emotion": "TweetEval",
}


def accuracy() -> str:
    """Mean test score of each data set, dense and sparse, of the settings that validation rows chose."""
    rows, outcomes = [], Outcomes(_results("accuracy")["outcomes"])
    for dataset, name in _SETS.items():
        for color, start in enumerate(_STARTS, start=1):
            scores = list(outcomes.tuned(dataset, start).values())
            text = f"{100 * statistics.mean(scores):.1f} ± {100 * statistics.stdev(scores):.1f}"
            rows.append((name if color == 1 else "", statistics.mean(scores), text, color))
    return _plot(svg.bars(rows, 1.0, "test scores by data set", _WIDTH), list(_STARTS.values()))


def engines() -> str:
    """One text of 128 tokens through a BERT base, by engine."""
    return _bars(_of_engine("bert-base", "median_ms"), "{:.1f} ms", "milliseconds for a text by engine")


def memory() -> str:
    """What the process holds for that model."""
    return _bars(_of_engine("bert-base", "resident_mib"), "{:.0f} MiB", "memory by engine")


def texts() -> str:
    """Texts of a test split a second, from string to label."""
    (found,) = [one for one in _results("zen4/engine_texts")["outcomes"] if one["task"] == "sick"]
    names = {
        "native": "native",
        "onnxruntime": "ONNX Runtime, our batches",
        "deepsparse, in buckets": "DeepSparse, four lengths",
        "deepsparse, padded to 128": "DeepSparse, padded to 128",
    }
    rates = {name: found["contestants"][key]["items_per_second"] for key, name in names.items()}
    return _bars(rates, "{:,.0f} texts/s", "texts a second by engine")


def zeros() -> str:
    """Time against the share of zeros."""
    points = _results("zen4/engine_sweep")["by_zeros"]
    return _lines(points, lambda point: 100 * point["zeros"], "zeros in %, BERT base, 128 tokens")


def lengths() -> str:
    """Time against the length of the text."""
    points = _results("zen4/engine_sweep")["by_length"]
    return _lines(points, lambda point: point["length"], "tokens, BERT base, 90 % zeros")


def choices() -> str:
    """Accuracy against texts a second, one by one, on the first data set of the table; numbered as its lines are."""
    found = next(iter(_results("choices")["outcomes"].values())).values()
    measured = [one for one in found if one["speed"] is not None]
    rates = [math.log10(one["speed"]["1"]["texts_per_second"]) for one in measured]
    scores = [100 * one["accuracy"] for one in measured]
    frame = svg.Frame([math.floor(min(rates)), math.ceil(max(rates))], scores, _WIDTH + 60, 260)
    frame.x_ticks = list(range(math.floor(min(rates)), math.ceil(max(rates)) + 1))
    parts = [
        frame.grid("texts a second, one by one", lambda value: f"{value:g} %", lambda value: f"{10**value:,}")
    ]
    for number, (one, rate, score) in enumerate(zip(measured, rates, scores, strict=True), start=1):
        x, y, color = frame.x(rate), frame.y(score), 1 if one["title"].startswith("ours") else 2
        parts.append(f'<circle class="dot s{color}" cx="{x}" cy="{y}" r="4"/>')
        parts.append(f'<text x="{x + 6}" y="{y + (-4 if number % 2 else 10)}">{number}</text>')
        column, row = divmod(number - 1, (len(measured) + 1) // 2)
        name = escape(f"{number} {one['title']}")
        parts.append(f'<text x="{8 + 230 * column}" y="{frame.height + 16 + 15 * row}">{name}</text>')
    height = frame.height + 16 + 15 * ((len(measured) + 1) // 2)
    return _plot(svg.figure("".join(parts), frame.width, height, "accuracy against texts a second"))


def _results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _of_engine(model: str, key: str) -> dict[str, float]:
    (found,) = [
        one for one in _results("zen4/engine")["results"] if (one["model"], one["batch"]) == (model, 1)
    ]
    return {name: found["lanes"][engine][key] for engine, name in _ENGINES.items()}


def _bars(values: Mapping[str, float], form: str, label: str) -> str:
    rows = [
        (name, value, form.format(value), 2 if index else 1)
        for index, (name, value) in enumerate(values.items())
    ]
    return _plot(svg.bars(rows, max(values.values()), label, _WIDTH))


def _lines(points: Sequence[Mapping[str, Any]], at: Callable[[Any], float], label: str) -> str:
    names = {engine: name for engine, name in _ENGINES.items() if engine in points[0]["ms"]}
    series = {name: [(at(point), point["ms"][engine]) for point in points] for engine, name in names.items()}
    return _plot(svg.lines(series, label, lambda value: f"{value:g} ms", zero=True), list(names.values()))


def _plot(drawing: str, names: Sequence[str] = ()) -> str:
    """A drawing of the report's page as a file by itself, with the names of its colors above it."""
    match = re.fullmatch(
        r'<svg viewBox="0 0 (\d+) (\d+)"[^>]*?(aria-label="[^"]*")>(.*)</svg>', drawing, re.DOTALL
    )
    assert match, "svg.figure writes such an element"
    width, height, body = int(match[1]), int(match[2]), match[4]
    head = _HEAD if names else 0
    legend, x = "", 8.0
    for color, name in enumerate(names, start=1):
        legend += f'<rect class="bar s{color}" x="{x:.0f}" y="4" width="11" height="11" rx="2"/>'
        legend += f'<text x="{x + 16:.0f}" y="14">{escape(name)}</text>'
        x += 16 + 6.4 * len(name) + 20
    light, dark = (" ".join(palette.split()) for palette in _PALETTES)
    style = f"svg.plot {{ {light} }}\n@media (prefers-color-scheme: dark) {{ svg.plot {{ {dark} }} }}{_RULES}"
    style += "\n".join(
        f"svg.plot .bar.s{n}, svg.plot .dot.s{n} {{ fill: var(--s{n}) }} svg.plot .line.s{n} {{ stroke: var(--s{n}) }}"
        for n in (1, 2, 3, 4)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width} {height + head}" '
        f'width="{width * 3 // 2}" height="{(height + head) * 3 // 2}" role="img" {match[3]}>\n'
        f'<style>{style}</style>\n{legend}\n<g transform="translate(0 {head})">{body}</g>\n</svg>\n'
    )


PLOTS: Mapping[str, Callable[[], str]] = {
    "accuracy": accuracy,
    "engines": engines,
    "memory": memory,
    "texts": texts,
    "zeros": zeros,
    "lengths": lengths,
    "choices": choices,
}
