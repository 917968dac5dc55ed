"""The machine and versions of a measurement, and its results as a Markdown and a JSON file."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deepsparse.hardware import cpu_model
from resparse.files import write_json, write_text

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("resparse", "torch", "transformers", "datasets", "scikit-learn", "numpy")


def machine() -> dict[str, Any]:
    """The processor, the cores that this process may use, and the versions that matter."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def keep(
    name: str,
    title: str,
    tables: Iterable[str],
    data: dict[str, Any],
    folder: Path = RESULTS,
    measured_on: dict[str, Any] | None = None,
) -> Path:
    """Write `name`.md and `name`.json into `folder` and print the former.

    Args:
        tables: Markdown blocks (see `table`), written in order under the title.
        data: the numbers behind the tables; machine, date and command are added.
        measured_on: the `machine` that the numbers are of, with its `gpu`; by default this one.

    Returns:
        The path of the Markdown file.
    """
    here = measured_on or machine()
    gpu = f"{here['gpu']}, " if "gpu" in here else ""
    # The measuring machine's folders mean nothing to a reader.
    command = shlex.join([f"benchmarks/{Path(sys.argv[0]).name}", *map(_shortened, sys.argv[1:])])
    packages = ", ".join(f"{package} {found}" for package, found in here["versions"].items())
    lines = [
        f"# {title}",
        f"{gpu}{here['cpu']}, {here['cores']} cores, {here['system']}, Python {here['python']}; {packages}; "
        f"{datetime.now(UTC):%Y-%m-%d}.",
        f"`{command}`",
        *tables,
    ]
    text = "\n\n".join(lines) + "\n"
    write_json(folder / f"{name}.json", {"machine": here, "command": command, **data})
    path = folder / f"{name}.md"
    write_text(path, text)
    print(text)
    return path


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column is aligned left and whose others are aligned right."""
    body = [list(header), *map(list, rows)]
    widths = [max(3, *(len(row[column]) for row in body)) for column in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return f"| {' | '.join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])} |"

    return "\n".join(line(cells) for cells in (body[0], rule, *body[1:]))


def _shortened(argument: str) -> str:
    name, equals, value = argument.rpartition("=")
    return f"{name}{equals}{Path(value).name}" if value.startswith("/") else argument


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
