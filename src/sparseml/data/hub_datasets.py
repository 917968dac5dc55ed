"""Datasets from the Hugging Face Hub, by their current ids, with a one-line message for every failure.

Their files are fetched as models are (`sparsezoo.hub_download`): resumed and checked, into the client's cache, where
`datasets` then finds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resparse.errors import did_you_mean
from resparse.files import write_text
from resparse.progress import waiting
from sparseml.data.known_datasets import RENAMED_DATASETS
from sparseml.data.rows import DataError, RawSplit, from_arrow
from sparsezoo.common import ZooError
from sparsezoo.hub import is_offline
from sparsezoo.hub_download import fetch_file, list_files
from sparsezoo.hub_repo import MISSING, Access, HubRepo, UnreachableError, explain

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

CONVERTED = "refs/convert/parquet"
# The Hub's prefix for a large split of which it converted only a first part.
_PARTIAL = "partial-"
_DATA_FILE = re.compile(r"hf://datasets/(?P<name>[^@]+)@(?P<commit>[^/]+)/(?P<path>.+)")

Splits = dict[str, RawSplit]


def read_hub(
    name: str, config: str | None, cache_dir: str | None, token: bool | str | None
) -> tuple[Splits, list[str]]:
    """Read all splits of a Hub dataset, under the Hub's names, or its conversion; returns notes, too.

    Raises:
        DataError: no such dataset or configuration, no access, no network, or damaged; names the repository.
    """
    repo_name = RENAMED_DATASETS.get(name.lower(), name)
    notes = [] if repo_name == name else [f"dataset: {name!r} is {repo_name} on the Hub"]
    if "/" not in repo_name:
        raise DataError(
            f"--dataset_name {name}: neither a folder with data here nor a dataset that has moved to a "
            f"known place. Hub datasets are OWNER/NAME. {did_you_mean(name, RENAMED_DATASETS)}"
        )
    repo = HubRepo(repo_name, name, "dataset", Access(token))
    try:
        with _quiet_clients(), waiting(f"downloading {repo_name}"):
            return _read(repo, config, cache_dir, notes), notes
    except ZooError as error:
        raise DataError(str(error)) from error


def _read(repo: HubRepo, config: str | None, cache_dir: str | None, notes: list[str]) -> Splits:
    if is_offline():
        return _from_cache(repo, config, cache_dir, None)
    try:
        # Requested first, since the clients retry five times with growing pauses.
        _, files = list_files(repo, None)
    except UnreachableError as error:
        splits = _from_cache(repo, config, cache_dir, error)
        notes.append(f"{error} Using the copy of an earlier download.")
        return splits
    try:
        return _load(repo, files, config, cache_dir)
    except _ScriptOnlyError:
        notes.append(
            f"dataset: {repo.name} holds a loading script; read from the Hub's Parquet conversion of it"
        )
    splits, partial = _load_converted(repo, config, cache_dir)
    if partial:
        notes.append(f"dataset: the Hub has converted only a first part of {', '.join(partial)}")
    return splits


class _ScriptOnlyError(Exception):
    """The repository has a loading script, which `datasets` no longer runs."""


def _from_cache(repo: HubRepo, config: str | None, cache_dir: str | None, error: ZooError | None) -> Splits:
    """Read what an earlier run has downloaded; `error` says why the Hub cannot be reached (None: offline mode)."""
    with _offline_clients():
        try:
            return _load(repo, {}, config, cache_dir)
        except ConnectionError:
            folder = _cached_conversion(_with_cache(repo, cache_dir))
    if folder is None:
        why = str(error or f"{repo.subject} is needed, and the Hub is switched off (HF_HUB_OFFLINE=1).")
        raise DataError(
            f"{why} No copy of an earlier download is here. Local files can be given with --train_file."
        ) from error
    return _read_converted(repo, folder, config, cache_dir)[0]


def _load(
    repo: HubRepo, files: Mapping[str, RepoSibling], config: str | None, cache_dir: str | None
) -> Splits:
    """Read data files with `datasets`, each fetched and checked first; without `files`, from the cache alone."""
    from datasets import load_dataset_builder

    with _errors_explained(repo, config):
        builder = load_dataset_builder(repo.name, config, cache_dir=cache_dir, token=repo.access.token)
        if not Path(builder.cache_dir).is_dir():
            _fetch_data_files(repo, builder.config.data_files or {}, files)
        builder.download_and_prepare()
        loaded = builder.as_dataset()
    return {split: from_arrow(rows, f"the {split} split of {repo.name}") for split, rows in loaded.items()}


def _fetch_data_files(repo: HubRepo, urls: Mapping[Any, Any], files: Mapping[str, RepoSibling]) -> None:
    for url in (url for split in urls.values() for url in split):
        match = _DATA_FILE.fullmatch(str(url))
        if match and match["path"] in files:
            # A renamed repository is cached under its old name.
            fetch_file(replace(repo, name=match["name"]), match["commit"], files[match["path"]])


def _load_converted(repo: HubRepo, config: str | None, cache_dir: str | None) -> tuple[Splits, list[str]]:
    """Read CONFIG/SPLIT/NUMBER.parquet, the form in which the Hub converts datasets."""
    from huggingface_hub.errors import RevisionNotFoundError

    repo = _with_cache(repo, cache_dir)
    try:
        commit, files = list_files(repo, CONVERTED)
    except ZooError as error:
        if isinstance(error.__cause__, RevisionNotFoundError):
            raise DataError(_unconverted_message(repo.name)) from error
        raise
    chosen = _choose_config(repo.name, config, list(files))
    for path, file in files.items():
        if path.startswith(f"{chosen}/") and path.endswith(".parquet"):
            fetch_file(repo, commit, file)
    # The client's own record of a ref, by which the copy is found offline; written when it is complete.
    write_text(repo.folder / "refs" / CONVERTED, commit)
    return _read_converted(repo, repo.folder / "snapshots" / commit, config, cache_dir)


def _with_cache(repo: HubRepo, cache_dir: str | None) -> HubRepo:
    return replace(repo, access=replace(repo.access, cache_dir=cache_dir))


def _cached_conversion(repo: HubRepo) -> Path | None:
    """The converted files of an earlier download; None where there are none."""
    note = repo.folder / "refs" / CONVERTED
    folder = repo.folder / "snapshots" / (note.read_text(encoding="utf-8").strip() if note.is_file() else "-")
    return folder if folder.is_dir() else None


def _read_converted(
    repo: HubRepo, folder: Path, config: str | None, cache_dir: str | None
) -> tuple[Splits, list[str]]:
    """The splits, mapped from the cache of `datasets`, and the names of those only partly converted by the Hub."""
    from datasets import Dataset

    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    chosen = _choose_config(repo.name, config, paths)
    parts: dict[str, list[str]] = {}
    for path in sorted((folder / chosen).glob("*/*.parquet")):
        parts.setdefault(path.parent.name, []).append(str(path))
    with _errors_explained(repo, config):
        splits = {
            split: from_arrow(
                Dataset.from_parquet(files, cache_dir=cache_dir), f"the {split} split of {repo.name}"
            )
            for split, files in parts.items()
        }
    partial = sorted(name.removeprefix(_PARTIAL) for name in splits if name.startswith(_PARTIAL))
    return {name.removeprefix(_PARTIAL): split for name, split in splits.items()}, partial


def _choose_config(repo: str, config: str | None, paths: list[str]) -> str:
    """The configuration to read, out of those that the paths of converted files begin with."""
    configs = sorted(
        {path.split("/")[0] for path in paths if re.fullmatch(r"[^/]+/[^/]+/[^/]+\.parquet", path)}
    )
    if not configs:
        raise DataError(_unconverted_message(repo))
    chosen = config or (configs[0] if len(configs) == 1 else "default")
    if chosen not in configs:
        raise DataError(_config_message(repo, config, configs))
    return chosen


@contextmanager
def _errors_explained(repo: HubRepo, config: str | None) -> Iterator[None]:
    """Convert the errors of `datasets` to one line; offline, a ConnectionError passes through to the caller."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise DataError(str(explain(error, repo))) from error
    except DatasetNotFoundError as error:
        gated = "is a gated dataset" in str(error)
        raise DataError(f"{repo.subject} {repo.gated if gated else MISSING}") from error
    except RuntimeError as error:
        if "scripts are no longer supported" in str(error):
            raise _ScriptOnlyError from error
        raise
    except ValueError as error:
        configs = re.findall(r"'([^']+)'", str(error).partition("vailable")[2].partition("]")[0])
        if configs and ("BuilderConfig" in str(error) or "Config name is missing" in str(error)):
            raise DataError(_config_message(repo.name, config, configs)) from error
        raise DataError(f"{repo.name}: the dataset cannot be read: {_first_line(error)}") from error
    except ConnectionError as error:
        if is_offline_mode():
            raise
        raise DataError(f"{repo.subject} cannot be reached any more: {_first_line(error)}") from error
    except OSError as error:
        raise DataError(f"{repo.name}: {_first_line(error)}") from error


def _config_message(repo: str, config: str | None, configs: list[str]) -> str:
    if config is None:
        return (
            f"{repo} has several configurations: {', '.join(configs)}. Choose one with --dataset_config_name."
        )
    return f"{repo} has no configuration {config!r}. {did_you_mean(config, configs)}"


def _unconverted_message(repo: str) -> str:
    return (
        f"{repo}: the repository holds only a loading script, which can no longer be run, and the Hub has no "
        "converted files of it. Download the data and give them as --train_file and --validation_file."
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet_clients() -> Iterator[None]:
    """Disable the progress bars, logs and download counts of `datasets` and `huggingface_hub`."""
    import datasets
    from huggingface_hub import logging

    # Public there, though its types do not say so.
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars  # type: ignore[attr-defined]

    levels = datasets.logging.get_verbosity(), logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled(), are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    disable_progress_bars()
    try:
        with _attribute_set(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False):
            yield
    finally:
        datasets.logging.set_verbosity(levels[0])
        logging.set_verbosity(levels[1])
        if not bars[0]:
            datasets.enable_progress_bars()
        if not bars[1]:
            enable_progress_bars()


@contextmanager
def _offline_clients() -> Iterator[None]:
    """Restrict the clients to their caches, as HF_HUB_OFFLINE=1 does."""
    import datasets
    import huggingface_hub

    # Each client reads the variable into a constant at import.
    holders = (huggingface_hub.constants, datasets.config)
    with (
        _attribute_set(holders[0], "HF_HUB_OFFLINE", True),
        _attribute_set(holders[1], "HF_HUB_OFFLINE", True),
    ):
        yield


@contextmanager
def _attribute_set(holder: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)
