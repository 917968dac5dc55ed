"""The folder of a guided run: beside the data, and recognized when the same command is repeated."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from resparse.errors import UserError
from resparse.files import write_json
from sparseml.data.sources import SPLIT_NAMES
from sparseml.session import checkpoint

State = Literal["new", "begun", "done"]

MARK: Final = "run.json"  # the data and arguments of a folder's run
REPORT: Final = "report.json"
SUMMARY: Final = "summary.txt"

_SUFFIX: Final = "-classifier"
_FILES: Final = ("train_file", "validation_file", "test_file")
# Arguments that do not change the result, or are secrets.
_IGNORED: Final = frozenset(
    {"output_dir", "overwrite_output_dir", "resume_from_checkpoint", "disable_tqdm", "token", "hub_token"}
)


class RunFolderError(UserError):
    """The named folder holds an unfinished run on other data or with other arguments."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, its state ("begun" or "done" by the same run), and that run's data and arguments."""

    path: Path
    state: State
    about: dict[str, Any]

    def begin(self) -> None:
        """Write the mark by which a repeated command recognizes the folder."""
        write_json(self.path / MARK, self.about)


def choose(values: Mapping[str, Any]) -> RunFolder:
    """The folder for the output, named or free beside the data; a RunFolderError where it holds another run."""
    about = _fingerprint(values)
    anew = bool(values.get("overwrite_output_dir"))
    named = values.get("output_dir")
    if named is not None:
        return _named(Path(named), about, anew)
    first = _default_folder(values)
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return RunFolder(folder, "new", about)
        if _read_mark(folder) == about:
            return RunFolder(folder, "new" if anew else _state(folder), about)
    raise AssertionError("unreachable")


def _named(folder: Path, about: dict[str, Any], anew: bool) -> RunFolder:
    mark = _read_mark(folder)
    if mark == about:
        return RunFolder(folder, "new" if anew else _state(folder), about)
    # A finished model is moved aside (`output_folder`); an unfinished run would be resumed with other arguments.
    finished = (folder / REPORT).exists() and (folder / "model.safetensors").exists()
    if anew or finished or (mark is None and checkpoint.latest(folder) is None):
        return RunFolder(folder, "new", about)
    raise RunFolderError(
        f"{folder} holds an unfinished run on other data or with other arguments. Give another --output_dir, or "
        "--overwrite_output_dir to replace it."
    )


def _state(folder: Path) -> State:
    return "done" if (folder / SUMMARY).is_file() and (folder / REPORT).is_file() else "begun"


def _read_mark(folder: Path) -> dict[str, Any] | None:
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None


def _fingerprint(values: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: value for name, value in sorted(values.items()) if name not in _IGNORED and value is not None
    }
    files = {str(path.resolve()): _size_and_time(path) for path in _paths(values)}
    plain = json.loads(json.dumps({"arguments": given, "files": files}, default=str))
    assert isinstance(plain, dict)
    return plain


def _size_and_time(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _paths(values: Mapping[str, Any]) -> Iterator[Path]:
    for name in _FILES:
        for part in str(values.get(name) or "").split(","):
            path = Path(part.strip()).expanduser()
            if part.strip() and re.search(r"[*?\[]", path.name):
                yield from sorted(path.parent.glob(path.name))
            elif part.strip():
                yield path


def _default_folder(values: Mapping[str, Any]) -> Path:
    """The first candidate for the folder: beside the data, named after them."""
    file = values.get("train_file")
    if file is None:
        name = str(values.get("task_name") or values.get("dataset_name"))
        config = values.get("dataset_config_name")
        whole = "-".join([Path(name).name, *([str(config)] if config else [])])
        return Path.cwd() / f"{whole}{_SUFFIX}"
    path = Path(str(file).split(",")[0].strip()).expanduser()
    stem = re.sub(r"[^\w.]+$|[*?\[\]]", "", path.stem)
    if stem.lower() in SPLIT_NAMES or not stem:
        stem = path.absolute().parent.name or "rows"
    place = path.parent if os.access(path.parent, os.W_OK) else Path.cwd()
    return place / f"{stem}{_SUFFIX}"
