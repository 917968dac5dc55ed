"""Results that depend on the processor: a folder for each, and a page that sets them side by side.

python benchmarks/processors.py        # writes the page anew
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepsparse.hardware import cpu_identity
from record import RESULTS, keep, table
from resparse.console import run
from resparse.files import write_text

PAGE = "by_processor.md"
_TITLE = "# The engine by processor"
_INTRODUCTION = (
    "Of the tables in the folders beside this page, made by `benchmarks/processors.py`. Times are of one text, or of "
    "sixteen, of 128 tokens, medians in ms; `/` is the native engine's time on the sparse model by the other's (in "
    "sweeps by its own on the dense model), the median over rounds in which they took turns: below 1 it is faster."
)

# By CPUID's family and the models from, to and with.
_AMD = (
    (26, 0x00, 0xFF, "zen5"),
    (25, 0x10, 0x1F, "zen4"),
    (25, 0x60, 0x7F, "zen4"),
    (25, 0xA0, 0xAF, "zen4"),
    (25, 0x00, 0xFF, "zen3"),
    (23, 0x30, 0xFF, "zen2"),
    (23, 0x00, 0x2F, "zen"),
)
# Of Intel's, which instructions decide.
_INTEL = (
    ("amx_int8", "intel-amx"),
    ("avx512_vnni", "intel-avx512-vnni"),
    ("avx512f", "intel-avx512"),
    ("avx_vnni", "intel-avx-vnni"),
    ("avx2", "intel-avx2"),
)
_PARTS = {
    "0xd08": "cortex-a72",
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd49": "neoverse-n2",
    "0xd4f": "neoverse-v2",
}


def name_of(identity: str) -> str:
    """A short and stable name of a kind of processor, such as "zen4" or "intel-amx".

    Args:
        identity: of `deepsparse.hardware.cpu_identity`: lines of /proc/cpuinfo.
    """
    facts = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in identity.splitlines())
    }
    flags = facts.get("flags", "").split()
    if facts.get("vendor_id") == "AuthenticAMD":
        family, model = int(facts.get("cpu family", 0)), int(facts.get("model", 0))
        for known, first, last, name in _AMD:
            if family == known and first <= model <= last:
                return name
    if facts.get("vendor_id") == "GenuineIntel":
        for flag, name in _INTEL:
            if flag in flags:
                return name
    part = _PARTS.get(facts.get("CPU part", ""))
    plain = facts.get("model name") or identity.strip() or platform.machine()
    return part or re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def folder() -> Path:
    """Where results of this processor go."""
    return RESULTS / name_of(cpu_identity())


def keep_here(name: str, title: str, tables: Iterable[str], data: dict[str, Any]) -> None:
    """As `record.keep`, in this processor's folder; and write the page."""
    keep(name, title, tables, data, folder())
    write_page()


def page(results: Path = RESULTS) -> str:
    """The engine's tables of all processors, side by side."""
    blocks = [_TITLE, _INTRODUCTION]
    for name, make in _SECTIONS.items():
        found = {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(results.glob(f"*/{name}.json"))
        }
        if found:
            blocks += make(name, found)
    return "\n\n".join(blocks) + "\n"


def write_page() -> None:
    """Write the page."""
    write_text(RESULTS / PAGE, page())


def _linked(processor: str, name: str, data: dict[str, Any]) -> str:
    return (
        f"[{processor}]({processor}/{name}.md) ({data['machine']['cpu']}, {data['machine']['cores']} cores)"
    )


def _engine(name: str, found: dict[str, Any]) -> list[str]:
    others = ("native dense", "onnxruntime", "openvino", "deepsparse")
    rows = []
    for processor, data in found.items():
        for result in data["results"]:
            lanes = result["lanes"]
            cells = [
                f"{lanes[other]['median_ms']:.1f} (/ {lanes[other]['ours_by_theirs']:.2f})"
                if other in lanes
                else "–"
                for other in others
            ]
            rows.append(
                [
                    _linked(processor, name, data),
                    f"{result['model']}, {result['batch']} x 128",
                    f"{lanes['native']['median_ms']:.1f}",
                    *cells,
                ]
            )
    clock = "one thread, its processor time" if name == "engine_cpu" else "all cores"
    return [f"## Beside other engines, {clock}", table(["processor", "model", "native", *others], rows)]


def _sweep(name: str, found: dict[str, Any]) -> list[str]:
    blocks = []
    for key, sweep, title in (
        ("zeros", "by_zeros", "By the share of zeros (BERT base, one text of 128 tokens)"),
        ("length", "by_length", "By length (BERT base at 90 % zeros, one text)"),
    ):
        places = sorted({point[key] for data in found.values() for point in data[sweep]})
        rows = []
        for processor, data in found.items():
            points = {point[key]: point for point in data[sweep]}
            cells = [_beside_dense(points[place]) if place in points else "–" for place in places]
            rows.append([_linked(processor, name, data), *cells])
        header = ["processor", *(f"{place:.0%}" if key == "zeros" else str(place) for place in places)]
        blocks += [f"## {title}", table(header, rows)]
    return blocks


def _beside_dense(point: dict[str, Any]) -> str:
    by_dense = point.get("native_by", {}).get("native dense")
    return f"{point['ms']['native']:.1f}" + ("" if by_dense is None else f" (/ {by_dense:.2f})")


def _peak(name: str, found: dict[str, Any]) -> list[str]:
    rows = []
    for processor, data in found.items():
        for one in data["products"]:
            if not one.get("sums_only", True):
                rows.append(
                    [
                        _linked(processor, name, data),
                        f"{one['isa']} {one['form']}, {one['zeros']:.0%} zeros",
                        str(one["threads"]),
                        str(one["tokens"]),
                        f"{one['peak'] / 1e9:.0f}",
                        f"{one['share']:.0%}",
                    ]
                )
    if not rows:
        return []
    header = ["processor", "products", "threads", "tokens", "peak, G/s", "of it"]
    return ["## Products by the processor's peak (zeros counted)", table(header, rows)]


def _texts(name: str, found: dict[str, Any]) -> list[str]:
    rows = [
        [
            _linked(processor, name, data),
            outcome["task"],
            contestant,
            f"{one['items_per_second']:.0f}",
            f"{one['ours_by_theirs']:.2f}",
        ]
        for processor, data in found.items()
        for outcome in data["outcomes"]
        for contestant, one in outcome["contestants"].items()
    ]
    header = ["processor", "test split", "contestant", "texts/s", "native by it"]
    return ["## From text to label", table(header, rows)]


_SECTIONS = {
    "engine": _engine,
    "engine_cpu": _engine,
    "engine_sweep": _sweep,
    "engine_peak": _peak,
    "engine_texts": _texts,
}


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    write_page()


if __name__ == "__main__":
    raise SystemExit(run(main))
