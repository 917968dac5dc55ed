"""Model files from the Hugging Face Hub: only those needed, each checked against what the Hub states.

Downloads go through `huggingface_hub` into its own cache, which Transformers shares. That client checks sizes
only, so checksums are checked here, once per download, and what was checked is noted under the zoo's home.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from resparse.files import write_json, write_text
from sparsezoo.checksum import git_blob_of, sha256_of
from sparsezoo.errors import ZooError
from sparsezoo.home import cache_folder
from sparsezoo.hub_errors import UnreachableError, client_errors, explain, pause_before_retry

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

Part = Literal["training", "deployment"]

_SMALL_FILES = frozenset(
    (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "bpe.codes",
    )
)
_RECIPE = re.compile(r"recipe[\w.-]*\.(?:md|ya?ml)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BAR_FROM_BYTES = 5_000_000
_TIMEOUT_S = 15.0
_ATTEMPTS = 3
_ONLY_ERRORS = 40


def fetch(repo: str, revision: str | None, part: Part, called: str) -> Path:
    """The folder with the wanted files of a Hub repository, downloaded when they are not here yet.

    Args:
        repo: OWNER/NAME.
        revision: branch, tag or commit; None for the default branch.
        part: "training" for weights, config, tokenizer and recipes; "deployment" for the ONNX model.
        called: what the user asked for, for messages.

    Raises:
        UnreachableError: offline or no network, and no earlier download is here.
        ZooError: missing, private, gated, out of order, or damaged; says which.
    """
    pinned = revision is not None and _COMMIT.fullmatch(revision)
    here = local_copy(repo, revision, part)
    if here and (pinned or is_offline()):
        return here
    if is_offline():
        raise UnreachableError(
            f"{called} needs the Hugging Face Hub repository {repo}, and the Hub is switched off "
            "(HF_HUB_OFFLINE=1). Run once with the Hub switched on; later runs use the copy."
        )
    try:
        with _quiet():
            return _download(repo, revision, part, called)
    except UnreachableError as error:
        if here is None:
            raise
        from resparse.console import say_once

        say_once(f"{error} Using the copy of {repo} from an earlier download.")
        return here


def is_offline() -> bool:
    """Whether the user has switched the Hub off, read afresh each time."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def is_ready(repo: str, revision: str | None, part: Part = "training") -> bool:
    """Whether the files of an earlier download are all here."""
    return local_copy(repo, revision, part) is not None


def local_copy(repo: str, revision: str | None, part: Part) -> Path | None:
    """The folder of a whole earlier download, ours or another program's; None where there is none."""
    folder = _hub_cache() / f"models--{repo.replace('/', '--')}"
    wanted = revision or "main"
    for ref in (_notes(repo) / "refs" / quote(wanted, safe=""), folder / "refs" / wanted):
        commit = wanted if _COMMIT.fullmatch(wanted) else _read(ref).strip()
        snapshot = folder / "snapshots" / commit
        if commit and snapshot.is_dir() and _is_whole(repo, commit, part, snapshot):
            return snapshot
    return None


def training_files(names: Collection[str]) -> list[str]:
    """Of a repository's files, those that a model is loaded from; empty when there are no weights among them.

    Safetensors go before pickled weights, which are taken only where there is nothing else.
    """
    weights = _weights_among(names)
    if not weights:
        return []
    return [*weights, *sorted(name for name in names if name in _SMALL_FILES or _RECIPE.fullmatch(name))]


def deployment_files(names: Collection[str]) -> list[str]:
    """Of a repository's files, those that an exported model runs from; empty when there is no ONNX model."""
    if "model.onnx" not in names:
        return []
    beside = ("model.onnx_data", "model.onnx.data", "model.data")
    return ["model.onnx", *sorted(name for name in names if name in _SMALL_FILES or name in beside)]


def weights_are_pickled(folder: Path) -> bool:
    """Whether a model folder holds its weights only as a pickle, which can run code when it is read."""
    names = [path.name for path in folder.iterdir()]
    return any(name.endswith(".bin") for name in _weights_among(names))


_CHOOSERS: dict[Part, Callable[[Collection[str]], list[str]]] = {
    "training": training_files,
    "deployment": deployment_files,
}
_LACKING = {
    "training": "no weights that can be read: neither model.safetensors nor pytorch_model.bin",
    "deployment": "no model.onnx",
}


def _weights_among(names: Collection[str]) -> list[str]:
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        if stem + suffix in names:
            return [stem + suffix]
        if f"{stem}{suffix}.index.json" in names:
            shard = re.compile(rf"{stem}-\d+-of-\d+{re.escape(suffix)}")
            return [f"{stem}{suffix}.index.json", *sorted(name for name in names if shard.fullmatch(name))]
    return []


def _download(repo: str, revision: str | None, part: Part, called: str) -> Path:
    """Download what is missing, check it, and note that it is whole."""
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    api = HfApi(endpoint=endpoint, library_name="resparse")
    info = _info(api, repo, revision, called)
    commit = str(info.sha)
    stated = {sibling.rfilename: sibling for sibling in info.siblings or []}
    wanted = _CHOOSERS[part](stated)
    if not wanted:
        raise ZooError(f"The Hugging Face Hub repository {repo}, for {called}, holds {_LACKING[part]}.")
    noted = _noted(repo, commit, part)
    paths = []
    for name in wanted:
        path = _download_file(api, repo, commit, stated[name], called)
        if noted.get(name) != path.stat().st_size:
            _check(path, stated[name], repo)
        paths.append(path)
    write_json(_note(repo, commit, part), {path.name: path.stat().st_size for path in paths})
    write_text(_notes(repo) / "refs" / quote(revision or "main", safe=""), commit)
    return paths[0].parent


def _info(api: HfApi, repo: str, revision: str | None, called: str) -> ModelInfo:
    """What the Hub states of a repository: its commit and its files. Tries again while the Hub is busy."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return api.model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
        except client_errors() as error:
            if attempt == _ATTEMPTS or not pause_before_retry(error, attempt):
                raise explain(error, repo, revision, called) from error
    raise AssertionError("unreachable")


def _download_file(api: HfApi, repo: str, commit: str, stated: RepoSibling, called: str) -> Path:
    with _bar(stated.size is None or stated.size >= _BAR_FROM_BYTES):
        try:
            return Path(api.hf_hub_download(repo, stated.rfilename, revision=commit, cache_dir=_hub_cache()))
        except client_errors() as error:
            raise explain(error, repo, commit, called, stated.rfilename) from error


def _check(path: Path, stated: RepoSibling, repo: str) -> None:
    """Compare a downloaded file with the checksum that the Hub states; remove it when they differ."""
    kind, expected = ("sha256", stated.lfs.sha256) if stated.lfs else ("git blob id", stated.blob_id)
    found = sha256_of(path) if stated.lfs else git_blob_of(path)
    if expected in (None, found):
        return
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise ZooError(
        f"{path.name} from the Hugging Face Hub repository {repo} arrived damaged: its {kind} is {found}, "
        f"and the Hub states {expected}. The file was removed; run the command again to fetch it anew."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's log off the screen, unless the user has set how much of it to see."""
    from huggingface_hub import logging

    before = logging.get_verbosity()
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity(_ONLY_ERRORS)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _bar(shown: bool) -> Iterator[None]:
    """Let the client show its progress bar for large files only, unless the user has decided on bars."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if shown or constants.HF_HUB_DISABLE_PROGRESS_BARS is not None:
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _hub_cache() -> Path:
    """The folder in which `huggingface_hub` keeps repositories, without importing it."""
    if value := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(value).expanduser()
    if value := os.environ.get("HF_HOME"):
        return Path(value).expanduser() / "hub"
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "huggingface" / "hub"


def _notes(repo: str) -> Path:
    return cache_folder("hub", repo.replace("/", "--"))


def _note(repo: str, commit: str, part: Part) -> Path:
    return _notes(repo) / f"{commit}.{part}.json"


def _noted(repo: str, commit: str, part: Part) -> dict[str, int]:
    """The files of a commit that were checked, name to size; empty where nothing was noted."""
    text = _read(_note(repo, commit, part))
    noted: dict[str, Any] = json.loads(text) if text else {}
    return noted


def _is_whole(repo: str, commit: str, part: Part, snapshot: Path) -> bool:
    if noted := _noted(repo, commit, part):
        return all(_size(snapshot / name) == size for name, size in noted.items())
    names = [path.name for path in snapshot.iterdir() if path.is_file()]
    chosen = _CHOOSERS[part](names)
    shards = sum(name.endswith((".safetensors", ".bin")) for name in chosen)
    expected = [int(count) for name in chosen for count in re.findall(r"-of-(\d+)\.", name)[:1]]
    return "config.json" in chosen and shards == max(expected, default=shards)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
