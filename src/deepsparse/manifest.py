"""The manifest of a folder of predictions: what they were made of, so that only the same command goes on with them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deepsparse.deployment import Deployment
from deepsparse.errors import DeepsparseError
from deepsparse.remote_files import File, Folder

MANIFEST: Final = "_manifest.json"
"""Readers of a folder of Parquet files pass over names that begin with an underscore."""

_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth")


class OutputError(DeepsparseError):
    """A folder that must not be written to."""


def deployment_files(deployment: Deployment) -> dict[str, bytes]:
    """What a deployment consists of, by name: its folder's files, but a checkpoint's weights."""
    paths = sorted(path for path in deployment.folder.iterdir() if path.is_file())
    return {path.name: path.read_bytes() for path in paths if path.suffix not in _WEIGHTS}


def digest(files: Mapping[str, bytes]) -> str:
    """The digest of files and their names."""
    total = hashlib.sha256()
    for name, data in sorted(files.items()):
        total.update(f"{name}\0{len(data)}\0".encode())
        total.update(data)
    return total.hexdigest()


def key_of(
    files: Sequence[File], model: str, columns: Sequence[str], rows: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be the same for blocks of an earlier run to count, as JSON has it."""
    key: dict[str, Any] = {
        "input": [[file.url, file.size, file.version] for file in files],
        "model": model,
        "columns": list(columns),
        "block rows": rows,
        "settings": dict(settings),
    }
    return json.loads(json.dumps(key))  # type: ignore[no-any-return]


def begin(folder: Folder, key: Mapping[str, Any], overwrite: bool) -> set[str]:
    """Note in a folder what it is for, and give the names of the files of earlier runs that count.

    Raises:
        OutputError: the folder holds something else, and is not to be overwritten.
        WriteError: it cannot be written to.
    """
    names = folder.names()
    noted = folder.read_json(MANIFEST) if MANIFEST in names else None
    earlier = noted.get("key") if isinstance(noted, dict) else None
    if earlier is None and any(not name.startswith(".") for name in names):
        raise OutputError(
            f"{folder.url} holds files that are no predictions of this command: give another --output."
        )
    if earlier == key and not overwrite:
        return {name for name in names if _is_part(name)}
    if earlier is not None and not overwrite:
        changed = [name for name in key if not isinstance(earlier, dict) or earlier.get(name) != key[name]]
        raise OutputError(
            f"{folder.url} holds predictions of another {' and another '.join(changed)}: give another --output, or "
            "--overwrite."
        )
    # The parts go first: with a new manifest they would be taken for its own.
    for name in filter(_is_part, names):
        folder.remove(name)
    folder.write_json(MANIFEST, {"key": key, "done": None})
    return set()


def finish(folder: Folder, key: Mapping[str, Any], done: Mapping[str, Any]) -> None:
    """Note that all blocks are there."""
    folder.write_json(MANIFEST, {"key": key, "done": done})


def _is_part(name: str) -> bool:
    return re.fullmatch(r"part-\d{5,}-\d{6,}\.parquet", name) is not None
