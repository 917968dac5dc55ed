"""Datasets from the Hugging Face Hub, by today's ids, with one line for everything that can be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resparse.errors import did_you_mean
from resparse.progress import waiting
from sparseml.data.errors import DataError
from sparseml.data.files import concatenate
from sparseml.data.hub_clients import client_settings, offline
from sparseml.data.parquet import read_parquet
from sparseml.data.rows import RawSplit, from_arrow

# Old names without an owner, and the repositories that they moved to.
CANONICAL = {
    "ag_news": "fancyzhx/ag_news",
    "amazon_polarity": "fancyzhx/amazon_polarity",
    "banking77": "PolyAI/banking77",
    "dbpedia_14": "fancyzhx/dbpedia_14",
    "emotion": "dair-ai/emotion",
    "financial_phrasebank": "takala/financial_phrasebank",
    "glue": "nyu-mll/glue",
    "go_emotions": "google-research-datasets/go_emotions",
    "imdb": "stanfordnlp/imdb",
    "multi_nli": "nyu-mll/multi_nli",
    "rotten_tomatoes": "cornell-movie-review-data/rotten_tomatoes",
    "sick": "RobZamp/sick",
    "snli": "stanfordnlp/snli",
    "sst2": "stanfordnlp/sst2",
    "super_glue": "aps/super_glue",
    "trec": "CogComp/trec",
    "tweet_eval": "cardiffnlp/tweet_eval",
    "yahoo_answers_topics": "community-datasets/yahoo_answers_topics",
    "yelp_polarity": "fancyzhx/yelp_polarity",
    "yelp_review_full": "Yelp/yelp_review_full",
}
CONVERTED = "refs/convert/parquet"
# Of a large split the Hub converts only a first part, and then names it so.
_PARTIAL = "partial-"


def read_hub(
    name: str, config: str | None, cache_dir: str | None, token: bool | str | None
) -> tuple[dict[str, RawSplit], list[str]]:
    """Read all splits of a Hub dataset.

    A repository that only holds a loading script is read from the Parquet files that the Hub made of it.

    Returns:
        The splits under the Hub's names for them, and notes.

    Raises:
        DataError: no such dataset or configuration, no access, or no network.
    """
    repo = CANONICAL.get(name.lower(), name)
    notes = [] if repo == name else [f"dataset: {name!r} is {repo} on the Hub"]
    if "/" not in repo:
        raise DataError(
            f"--dataset_name {name}: neither a folder with data here nor a dataset that has moved to a "
            f"known place. Hub datasets are OWNER/NAME. {did_you_mean(name, CANONICAL)}"
        )
    with client_settings(), waiting(f"downloading {repo}"):
        if not _reachable(repo, token):
            return _from_cache(repo, config, cache_dir), notes
        try:
            return _load(repo, config, cache_dir, token), notes
        except _ScriptOnlyError:
            notes.append(
                f"dataset: {repo} holds a loading script; read from the Hub's Parquet conversion of it"
            )
            splits = _load_converted(repo, config, cache_dir, token)
            cut = sorted(name.removeprefix(_PARTIAL) for name in splits if name.startswith(_PARTIAL))
            if cut:
                notes.append(f"dataset: the Hub has converted only a first part of {', '.join(cut)}")
            return {name.removeprefix(_PARTIAL): split for name, split in splits.items()}, notes


class _ScriptOnlyError(Exception):
    """The repository has a loading script, which `datasets` no longer runs."""


def _reachable(repo: str, token: bool | str | None) -> bool:
    """Whether the Hub answers at all: asked once, for the clients try five times and longer each time.

    Raises:
        DataError: it answers that there is no such dataset.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        with _explained(repo, None):
            HfApi(token=token).dataset_info(repo, timeout=10)
    except OfflineModeIsEnabled:
        return False
    except Exception as error:
        # Which HTTP library the client uses, and so whose error this is, changes with its version.
        if any(base.__name__ == "TransportError" for base in type(error).__mro__):
            return False
        raise
    return True


def _from_cache(repo: str, config: str | None, cache_dir: str | None) -> dict[str, RawSplit]:
    """Read what an earlier run has downloaded.

    Raises:
        DataError: none has.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    with offline():
        try:
            return _load(repo, config, cache_dir, None)
        except ConnectionError as error:
            try:
                splits = _load_converted(repo, config, cache_dir, None)
                return {name.removeprefix(_PARTIAL): split for name, split in splits.items()}
            except LocalEntryNotFoundError:
                raise DataError(
                    f"{repo}: the Hub cannot be reached, and the dataset is not in the local cache. Check "
                    "the network (and HF_HUB_OFFLINE), or give local files with --train_file."
                ) from error


def _load(
    repo: str, config: str | None, cache_dir: str | None, token: bool | str | None
) -> dict[str, RawSplit]:
    from datasets import load_dataset

    with _explained(repo, config):
        loaded = load_dataset(repo, config, cache_dir=cache_dir, token=token)
    return {split: from_arrow(rows, f"the {split} split of {repo}") for split, rows in loaded.items()}


def _load_converted(
    repo: str, config: str | None, cache_dir: str | None, token: bool | str | None
) -> dict[str, RawSplit]:
    """Read CONFIG/SPLIT/NUMBER.parquet, the form in which the Hub converts datasets."""
    from huggingface_hub import HfApi, is_offline_mode, snapshot_download

    def fetch(pattern: str) -> Path:
        return Path(
            snapshot_download(
                repo,
                repo_type="dataset",
                revision=CONVERTED,
                cache_dir=cache_dir,
                token=token,
                allow_patterns=pattern,
                local_files_only=is_offline_mode(),
            )
        )

    with _explained(repo, config):
        if is_offline_mode():
            folder = fetch(f"{config or '*'}/*")
            paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")]
        else:
            paths = HfApi(token=token).list_repo_files(repo, repo_type="dataset", revision=CONVERTED)
    chosen = _choose_config(repo, config, paths)
    with _explained(repo, config):
        folder = fetch(f"{chosen}/*")
    parts: dict[str, list[RawSplit]] = {}
    for path in sorted((folder / chosen).glob("*/*.parquet")):
        parts.setdefault(path.parent.name, []).append(read_parquet(path))
    return {split: concatenate(read, f"the {split} split of {repo}") for split, read in parts.items()}


def _choose_config(repo: str, config: str | None, paths: list[str]) -> str:
    """The configuration to read, out of those that the paths of converted files begin with."""
    configs = sorted(
        {path.split("/")[0] for path in paths if re.fullmatch(r"[^/]+/[^/]+/[^/]+\.parquet", path)}
    )
    if not configs:
        raise DataError(_unconverted(repo))
    chosen = config or (configs[0] if len(configs) == 1 else "default")
    if chosen not in configs:
        raise DataError(_config_message(repo, config, configs))
    return chosen


@contextmanager
def _explained(repo: str, config: str | None) -> Iterator[None]:
    """Turn what the Hub's clients raise into one line that names the repository.

    Lack of a network passes through: the caller may know a way without.
    """
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except (DatasetNotFoundError, GatedRepoError, RepositoryNotFoundError) as error:
        if "is a gated dataset" in str(error) or isinstance(error, GatedRepoError):
            raise DataError(
                f"{repo}: the dataset is gated. Ask for access at its page on the Hub, then run `hf auth "
                "login`."
            ) from error
        raise DataError(
            f"{repo}: the Hub has no such dataset, or it is private. Check the id; for a private one, run "
            "`hf auth login` and pass --use_auth_token."
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(_unconverted(repo)) from error
    except RuntimeError as error:
        if "scripts are no longer supported" in str(error):
            raise _ScriptOnlyError from error
        raise
    except ValueError as error:
        configs = re.findall(r"'([^']+)'", str(error).partition("vailable")[2].partition("]")[0])
        if configs and ("BuilderConfig" in str(error) or "Config name is missing" in str(error)):
            raise DataError(_config_message(repo, config, configs)) from error
        raise DataError(f"{repo}: the dataset cannot be read: {_first_line(error)}") from error
    except (ConnectionError, LocalEntryNotFoundError):
        raise
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise DataError(f"{repo}: {_first_line(error)}") from error


def _config_message(repo: str, config: str | None, configs: list[str]) -> str:
    if config is None:
        return (
            f"{repo} has several configurations: {', '.join(configs)}. Choose one with --dataset_config_name."
        )
    return f"{repo} has no configuration {config!r}. {did_you_mean(config, configs)}"


def _unconverted(repo: str) -> str:
    return (
        f"{repo}: the repository holds only a loading script, which can no longer be run, and the Hub has no "
        "converted files of it. Download the data and give them as --train_file and --validation_file."
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
