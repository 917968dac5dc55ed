"""A local folder as a dataset: data files named after their splits, or what `save_to_disk` wrote."""

from __future__ import annotations

import re
from pathlib import Path

from sparseml.data.errors import DataError
from sparseml.data.files import READERS, concatenate, read_file
from sparseml.data.rows import RawSplit, from_arrow

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
_SAVED = ("dataset_dict.json", "state.json")


def holds_data(folder: Path) -> bool:
    """Whether a folder is a dataset, and not some folder that happens to have a dataset's name."""
    return folder.is_dir() and (
        any((folder / name).is_file() for name in _SAVED) or bool(_data_files(folder))
    )


def read_folder(folder: Path, config: str | None) -> dict[str, RawSplit]:
    """Read the splits of a folder.

    Files belong to the split that their name or their folder's name begins with or holds as a word
    ("train.csv", "dev-1.jsonl", "test/part0.parquet"); where none does, all are training data.

    Args:
        folder: of data files (at most two levels deep), or written by `save_to_disk`.
        config: a subfolder to read instead.

    Raises:
        DataError: there is no such folder, it holds no data, or several configurations.
    """
    if config is not None:
        folder = folder / config
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    if any((folder / name).is_file() for name in _SAVED):
        return _saved(folder)
    files = _data_files(folder)
    if not files:
        raise DataError(f"{folder}: the folder holds no data files ({', '.join(READERS)}).")
    _refuse_mixture(folder, [file.relative_to(folder) for file in files])
    grouped: dict[str, list[Path]] = {}
    for file in files:
        grouped.setdefault(_split_of(file.relative_to(folder)) or "", []).append(file)
    unnamed = grouped.pop("", [])
    if not grouped:
        grouped = {"train": unnamed}
    return {
        split: concatenate([read_file(path) for path in paths], f"{folder} ({split})")
        for split, paths in grouped.items()
    }


def _data_files(folder: Path) -> list[Path]:
    found = [path for pattern in ("*", "*/*", "*/*/*") for path in folder.glob(pattern)]
    names = {"dataset_info.json", "dataset_infos.json", *_SAVED}
    return sorted(
        path
        for path in found
        if path.suffix.lower() in READERS
        and path.name not in names
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _refuse_mixture(folder: Path, files: list[Path]) -> None:
    """Refuse subfolders that each have training rows: the configurations of a downloaded dataset are no one dataset."""
    configs = {
        file.parts[0]
        for file in files
        if len(file.parts) > 1 and _split_of(Path(file.parts[0])) is None and _split_of(file) == "train"
    }
    if len(configs) > 1:
        raise DataError(
            f"{folder} has several configurations: {', '.join(sorted(configs))}. Choose one with --dataset_config_name."
        )


def _split_of(path: Path) -> str | None:
    """The split that a file's own name speaks of, else that its folder's does."""
    for part in (path.stem, *reversed(path.parts[:-1])):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return None


def _saved(folder: Path) -> dict[str, RawSplit]:
    from datasets import Dataset, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: not a whole dataset as save_to_disk writes it ({error}).") from error
    splits = {"train": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    return {
        SPLIT_NAMES.get(name, name): from_arrow(rows, f"{folder} ({name})") for name, rows in splits.items()
    }
