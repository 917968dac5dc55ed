"""The folder of a guided run: beside the data, and recognized when the same command is repeated."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sparseml.data.sources import SPLIT_NAMES
from sparseml.fingerprint import Fingerprint, fingerprint, read_mark

State = Literal["new", "begun", "done"]

REPORT: Final = "report.json"
SUMMARY: Final = "summary.txt"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, its state ("begun" or "done" by the same run), and what the run is made of."""

    path: Path
    state: State
    made_of: Fingerprint


def choose(values: Mapping[str, Any], defaults: Mapping[str, Any], product: str = "classifier") -> RunFolder:
    """The folder for the output: the named one, or a free one beside the data.

    Args:
        defaults: of all arguments.
        product: what is made, for its name.
    """
    # Where no batch size is given, one is chosen for all processes together.
    made_of = fingerprint(
        values, defaults, processes=None if values.get("per_device_train_batch_size") else 1
    )
    anew = bool(values.get("overwrite_output_dir"))
    named = values.get("output_dir")
    if named is not None:
        same = _made_of(Path(named)) == made_of
        return RunFolder(Path(named), _state(Path(named)) if same and not anew else "new", made_of)
    first = _default_folder(values, product)
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return RunFolder(folder, "new", made_of)
        if _made_of(folder) == made_of:
            return RunFolder(folder, "new" if anew else _state(folder), made_of)
    raise AssertionError("unreachable")


def _state(folder: Path) -> State:
    return "done" if (folder / SUMMARY).is_file() and (folder / REPORT).is_file() else "begun"


def _made_of(folder: Path) -> Fingerprint | None:
    mark = read_mark(folder)
    return mark.made_of if mark is not None else None


def _default_folder(values: Mapping[str, Any], product: str) -> Path:
    """The first candidate for the folder: beside the data, named after them."""
    file = values.get("train_file")
    if file is None:
        name = str(values.get("task_name") or values.get("dataset_name"))
        config = values.get("dataset_config_name")
        whole = "-".join([Path(name).name, *([str(config)] if config else [])])
        return Path.cwd() / f"{whole}-{product}"
    path = Path(str(file).split(",")[0].strip()).expanduser()
    stem = re.sub(r"[^\w.]+$|[*?\[\]]", "", path.stem)
    if stem.lower() in SPLIT_NAMES or not stem:
        stem = path.absolute().parent.name or "rows"
    place = path.parent if os.access(path.parent, os.W_OK) else Path.cwd()
    return place / f"{stem}-{product}"
