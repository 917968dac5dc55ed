"""Where the data come from: a benchmark task, a Hub dataset, a local folder, or local files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from resparse.errors import nearest
from sparseml.data.errors import DataError
from sparseml.data.files import read_files
from sparseml.data.folder import SPLIT_NAMES, holds_data, read_folder
from sparseml.data.hub import CANONICAL, read_hub
from sparseml.data.options import DataOptions
from sparseml.data.rows import RawSplit
from sparseml.data.tasks import TASKS, Task, find_task


@dataclass(frozen=True)
class Source:
    """Data as read, before any decision about them.

    Attributes:
        name: what to call the dataset in reports.
        splits: under the source's own names.
        task: the benchmark task, if it is one.
        task_name: its name in `TASKS`.
        notes: for the person.
    """

    name: str
    splits: dict[str, RawSplit]
    task: Task | None = None
    task_name: str | None = None
    notes: list[str] = field(default_factory=list)


def read_source(options: DataOptions) -> Source:
    """Read what the options name.

    Raises:
        DataError: they name nothing, or two things at once; or the data cannot be read.
    """
    task_name, task = find_task(options.task_name) if options.task_name else _task_by_dataset(options)
    files = {
        "train": options.train_file,
        "validation": options.validation_file,
        "test": options.test_file,
    }
    given = {split: path for split, path in files.items() if path}
    if given and options.dataset_name:
        raise DataError(
            f"Both --dataset_name {options.dataset_name} and --{next(iter(given))}_file are given: name "
            "one source."
        )
    if given:
        return _from_files(given, task, task_name)
    if task is not None and task_name is not None:
        if options.task_name and options.dataset_name and _task_by_dataset(options)[0] != task_name:
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


def _task_by_dataset(options: DataOptions) -> tuple[str | None, Task | None]:
    """The GLUE task that `--dataset_name glue --dataset_config_name X` means."""
    name, config = options.dataset_name, options.dataset_config_name
    if name is None or config is None or CANONICAL.get(name.lower(), name) != CANONICAL["glue"]:
        return None, None
    return (config, TASKS[config]) if config in TASKS and TASKS[config].config == config else (None, None)


def _from_files(files: dict[str, str], task: Task | None, task_name: str | None) -> Source:
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
    return Source(task_name or _file_name(Path(paths[0])), splits, task, task_name, notes)


def _file_name(path: Path) -> str:
    """What to call data out of files: the file's name, or its folder's where the file is called train.csv."""
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
