"""The source of the data: a benchmark task, a Hub dataset, a local folder, or local files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from resparse.errors import nearest
from sparseml.data.hub_datasets import read_hub
from sparseml.data.known_datasets import BENCHMARK_TASKS, RENAMED_DATASETS, BenchmarkTask, find_benchmark_task
from sparseml.data.readers import COLUMN_READERS, READERS, concatenate, read_file, read_files
from sparseml.data.rows import DataError, RawSplit, from_arrow

if TYPE_CHECKING:
    from sparseml.data.label_encoding import Labels

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SAVED = ("dataset_dict.json", "state.json")


@dataclass(frozen=True)
class DataOptions:
    """Which data to load, and for what, under the names of the command's arguments."""

    # A GLUE task or "imdb"; it decides columns, class names and metrics, also where files replace the Hub's copy.
    task_name: str | None = None
    dataset_name: str | None = None  # a Hub id, or a local folder (data files, or from `save_to_disk`)
    dataset_config_name: str | None = None  # of a Hub dataset, or a subfolder of a local one
    # Each a path, a glob pattern, or several separated by commas; CSV, TSV, JSON, JSON Lines or Parquet.
    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    validation_ratio: float | None = None  # share of the training rows to hold out, between 0 and 1
    hold_out: bool = False  # without a validation split, hold out a share that depends on the number of rows
    eval_on_test: bool = False  # evaluate on the test split
    input_column_names: str | None = None  # "a" or "a,b"; None chooses
    label_column_name: str | None = "label"  # None chooses; so does "label" where there is no such column
    do_regression: bool | None = None  # numbers are scores (True) or classes (False); None: by their values
    max_train_samples: int | None = None
    max_eval_samples: int | None = None
    max_predict_samples: int | None = None
    cache_dir: str | None = None  # of Hub datasets; None is the Hub client's default
    token: bool | str | None = None  # for private datasets: True is the stored login
    seed: int = 42  # of the hold-out and of sampling
    needs_train: bool = True  # what the run does: only these splits are required
    needs_eval: bool = True
    needs_predict: bool = False
    known_labels: Labels | None = None  # of a model that is not trained in this run: their order is kept
    known_columns: tuple[str, ...] = ()  # of texts, that such a model was trained on


@dataclass(frozen=True)
class Source:
    """A dataset as read."""

    name: str  # for reports
    splits: dict[str, RawSplit]  # under the source's own names
    task: BenchmarkTask | None = None
    task_name: str | None = None  # the key of the benchmark task in `BENCHMARK_TASKS`
    notes: list[str] = field(default_factory=list)  # for the user, a line each


def read_source(options: DataOptions) -> Source:
    """Read the data that the options name; a DataError where they name no source or two, or it cannot be read."""
    task_name, task = (
        find_benchmark_task(options.task_name) if options.task_name else _benchmark_by_dataset(options)
    )
    files = {"train": options.train_file, "validation": options.validation_file, "test": options.test_file}
    given = {split: path for split, path in files.items() if path}
    if given and options.dataset_name:
        raise DataError(
            f"Both --dataset_name {options.dataset_name} and --{next(iter(given))}_file are given: name "
            "one source."
        )
    if given:
        return _from_files(given, task, task_name)
    if task is not None and task_name is not None:
        if options.task_name and options.dataset_name and _benchmark_by_dataset(options)[0] != task_name:
            raise DataError(
                f"Both --task_name {options.task_name} and --dataset_name {options.dataset_name} are "
                "given: name one source."
            )
        splits, notes = read_hub(task.repo, task.config, options.cache_dir, options.token)
        return Source(task_name, splits, task, task_name, notes)
    if options.dataset_name:
        return _from_dataset(options, options.dataset_name)
    raise DataError(
        "No data are named: give --task_name (such as sst2), --dataset_name (a Hub id or a folder), or "
        "--train_file and --validation_file."
    )


def _benchmark_by_dataset(options: DataOptions) -> tuple[str | None, BenchmarkTask | None]:
    """The GLUE task that `--dataset_name glue --dataset_config_name X` means."""
    name, config = options.dataset_name, options.dataset_config_name
    if name is None or config is None or RENAMED_DATASETS.get(name.lower(), name) != RENAMED_DATASETS["glue"]:
        return None, None
    task = BENCHMARK_TASKS.get(config)
    return (config, task) if task is not None and task.config == config else (None, None)


def _from_files(files: dict[str, str], task: BenchmarkTask | None, task_name: str | None) -> Source:
    notes = []
    if task_name is not None:
        notes.append(f"data: the files given, with the columns, class names and metrics of {task_name}")
    paths = list(files.values())
    for position, path in enumerate(paths):
        if path in paths[:position]:
            notes.append(
                f"data: {path} serves as more than one split, so its metrics say nothing about new texts"
            )
    splits = {split: read_files(path, f"--{split}_file") for split, path in files.items()}
    return Source(task_name or _dataset_name(Path(paths[0])), splits, task, task_name, notes)


def _dataset_name(path: Path) -> str:
    """The name of data from files: the file's name, or its folder's where that is a split's, as in train.csv."""
    folder = path.absolute().parent.name
    return folder if path.stem.lower() in SPLIT_NAMES and folder else path.stem


def _from_dataset(options: DataOptions, name: str) -> Source:
    path = Path(name).expanduser()
    if path.is_file():
        raise DataError(f"--dataset_name {name}: this is a file. Give it as --train_file.")
    if holds_data(path if options.dataset_config_name is None else path / options.dataset_config_name):
        return Source(
            path.name, read_folder(path, options.dataset_config_name), notes=[f"data: the folder {name}"]
        )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        if path.is_dir():
            return Source(path.name, read_folder(path, options.dataset_config_name))
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = " or ".join(str(path.with_name(sibling)) for sibling in nearest(path.name, siblings))
        raise DataError(
            f"--dataset_name {name}: there is no such folder.{f' Did you mean {near}?' if near else ''}"
        )
    splits, notes = read_hub(name, options.dataset_config_name, options.cache_dir, options.token)
    config = f"/{options.dataset_config_name}" if options.dataset_config_name else ""
    return Source(f"{name}{config}", splits, notes=notes)


def holds_data(folder: Path) -> bool:
    """Whether a folder holds a dataset, rather than having a Hub dataset's name by chance."""
    return folder.is_dir() and (any((folder / name).is_file() for name in SAVED) or bool(_data_files(folder)))


def read_folder(folder: Path, config: str | None) -> dict[str, RawSplit]:
    """Read the splits of a folder (or its subfolder `config`) of data files, or one that `save_to_disk` wrote.

    Files belong to the split that their name or their folder's name contains as a word ("train.csv", "dev-1.jsonl",
    "test/part0.parquet"); where none does, all are training data.
    """
    if config is not None:
        folder = folder / config
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    if any((folder / name).is_file() for name in SAVED):
        return _read_saved(folder)
    files = _data_files(folder)
    if not files:
        raise DataError(f"{folder}: the folder holds no data files ({', '.join(READERS)}).")
    _refuse_configurations(folder, [file.relative_to(folder) for file in files])
    grouped: dict[str, list[Path]] = {}
    for file in files:
        grouped.setdefault(split_of(file.relative_to(folder)) or "", []).append(file)
    unnamed = grouped.pop("", [])
    grouped = grouped or {"train": unnamed}
    return {
        split: concatenate([read_file(path) for path in paths], f"{folder} ({split})")
        for split, paths in grouped.items()
    }


def _data_files(folder: Path) -> list[Path]:
    metadata = {"dataset_info.json", "dataset_infos.json", *SAVED}
    return sorted(
        path
        for pattern in ("*", "*/*", "*/*/*")
        for path in folder.glob(pattern)
        if path.suffix.lower() in {*READERS, *COLUMN_READERS} - {".txt"}
        and path.name not in metadata
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _refuse_configurations(folder: Path, files: list[Path]) -> None:
    """Refuse several subfolders with training rows: these are configurations, of which the user has to choose one."""
    configs = {
        file.parts[0]
        for file in files
        if len(file.parts) > 1 and split_of(Path(file.parts[0])) is None and split_of(file) == "train"
    }
    if len(configs) > 1:
        raise DataError(
            f"{folder} has several configurations: {', '.join(sorted(configs))}. Choose one with --dataset_config_name."
        )


def split_of(path: Path) -> str | None:
    """The split that a file's name gives, else its folder's name."""
    for part in (path.stem, *reversed(path.parts[:-1])):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return None


def _read_saved(folder: Path) -> dict[str, RawSplit]:
    from datasets import Dataset, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: not a whole dataset as save_to_disk writes it ({error}).") from error
    splits = {"train": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    return {
        SPLIT_NAMES.get(name, name): from_arrow(rows, f"{folder} ({name})") for name, rows in splits.items()
    }
