"""Model files from the Hugging Face Hub: only those needed, each checked against the Hub's checksum.

Downloads go into the cache of `huggingface_hub`, which Transformers shares. Checksums are compared once per download;
the sizes of checked files are recorded under the zoo's home, or beside the cache that the user named.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from resparse.files import write_json, write_text
from sparsezoo.common import ZooError, cache_folder
from sparsezoo.hub_download import fetch_file, list_files, quiet
from sparsezoo.hub_repo import Access, HubRepo, UnreachableError

Part = Literal["training", "deployment", "settings"]

_SMALL_FILES = frozenset(
    {"config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
    | {"vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "spm.model"}
    | {"sentencepiece.bpe.model", "bpe.codes"}
)
_RECIPE = re.compile(r"recipe[\w.-]*\.(?:md|ya?ml)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CARD = "README.md"  # where the licence is stated
_INNER = "deployment/"
_STATE = "modifiers.safetensors"  # masks and quantization ranges of our checkpoints


def fetch(name: str, revision: str | None, part: Part, requested: str, access: Access | None = None) -> Path:
    """The folder with the requested files of a Hub repository, downloaded when they are not cached yet.

    `part` is "training" for weights, config, tokenizer and recipes; "deployment" for the ONNX model; "settings" for
    config and tokenizer alone. `requested` is the user's name for the repository, for messages.

    Raises:
        UnreachableError: offline or no network, and no earlier download is cached.
        ZooError: missing, private, gated, out of order, or damaged; says which.
    """
    repo = HubRepo(name, requested, access=access or Access())
    pinned = revision is not None and _COMMIT.fullmatch(revision)
    here = _local_copy(repo, revision, part)
    if here and (pinned or is_offline()):
        return here
    if is_offline():
        raise UnreachableError(
            f"{requested} needs the Hugging Face Hub {repo.described}, and the Hub is switched off "
            "(HF_HUB_OFFLINE=1). Run once with the Hub switched on; later runs use the copy."
        )
    try:
        with quiet():
            return _download(repo, revision, part)
    except UnreachableError as error:
        if here is None:
            raise
        from resparse.console import say_once

        say_once(f"{error} Using the copy of {name} from an earlier download.")
        return here


def is_offline() -> bool:
    """Whether the user has set offline mode; read from the environment on each call."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def is_ready(name: str, revision: str | None, part: Part = "training") -> bool:
    """Whether the cache has all files."""
    return local_copy(name, revision, part) is not None


def local_copy(name: str, revision: str | None, part: Part) -> Path | None:
    """The folder of a complete earlier download, ours or another program's; None where there is none."""
    return _local_copy(HubRepo(name, name), revision, part)


def _local_copy(repo: HubRepo, revision: str | None, part: Part) -> Path | None:
    wanted = revision or "main"
    for ref in (_records(repo) / "refs" / quote(wanted, safe=""), repo.folder / "refs" / wanted):
        commit = wanted if _COMMIT.fullmatch(wanted) else _read(ref).strip()
        snapshot = repo.folder / "snapshots" / commit
        if commit and snapshot.is_dir() and _is_complete(repo, commit, part, snapshot):
            return snapshot
    return None


def training_files(names: Collection[str]) -> list[str]:
    """The files of a repository that a model is loaded from, safetensors rather than pickles; empty without weights."""
    weights = _weights_among(names)
    others = (
        name for name in names if name in _SMALL_FILES or name in (_STATE, _CARD) or _RECIPE.fullmatch(name)
    )
    return [*weights, *sorted(others)] if weights else []


def settings_files(names: Collection[str]) -> list[str]:
    """The configuration and tokenizer files of a repository."""
    return sorted(name for name in names if name in _SMALL_FILES)


def deployment_files(names: Collection[str]) -> list[str]:
    """The files of a repository that an exported model runs from; empty without an ONNX model.

    They lie at its top, or in its folder `deployment`, where a training that ended with an export has them.
    """
    if "model.onnx" not in names:
        inner = {name.removeprefix(_INNER) for name in names if name.startswith(_INNER)}
        return [_INNER + name for name in deployment_files(inner)] if "model.onnx" in inner else []
    beside = ("model.onnx_data", "model.onnx.data", "model.data")
    return ["model.onnx", *sorted(name for name in names if name in _SMALL_FILES or name in beside)]


_CHOOSERS: dict[Part, Callable[[Collection[str]], list[str]]] = {
    "training": training_files,
    "deployment": deployment_files,
    "settings": settings_files,
}
_MISSING = {
    "training": "no weights that can be read: neither model.safetensors nor pytorch_model.bin",
    "deployment": "no model.onnx",
    "settings": "neither a configuration nor a tokenizer",
}


def _weights_among(names: Collection[str]) -> list[str]:
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        if stem + suffix in names:
            return [stem + suffix]
        if f"{stem}{suffix}.index.json" in names:
            shard = re.compile(rf"{stem}-\d+-of-\d+{re.escape(suffix)}")
            return [f"{stem}{suffix}.index.json", *sorted(name for name in names if shard.fullmatch(name))]
    return []


def _download(repo: HubRepo, revision: str | None, part: Part) -> Path:
    """Download missing files, check them, and record their sizes."""
    commit, files = list_files(repo, revision)
    wanted = _CHOOSERS[part](files)
    if not wanted:
        raise ZooError(f"{repo.subject} holds {_MISSING[part]}.")
    checked = _checked_sizes(repo, commit, part)
    paths = [fetch_file(repo, commit, files[name], checked.get(name)) for name in wanted]
    sizes = {name: path.stat().st_size for name, path in zip(wanted, paths, strict=True)}
    write_json(_record(repo, commit, part), sizes)
    write_text(_records(repo) / "refs" / quote(revision or "main", safe=""), commit)
    return paths[0].parents[wanted[0].count("/")]


def _records(repo: HubRepo) -> Path:
    name = repo.name.replace("/", "--")
    return repo.cache / ".resparse" / name if repo.access.cache_dir else cache_folder("hub", name)


def _record(repo: HubRepo, commit: str, part: Part) -> Path:
    return _records(repo) / f"{commit}.{part}.json"


def _checked_sizes(repo: HubRepo, commit: str, part: Part) -> dict[str, int]:
    """Name to size of the checked files of a commit; empty where there is no record."""
    return dict(json.loads(_read(_record(repo, commit, part)) or "{}"))


def _is_complete(repo: HubRepo, commit: str, part: Part, snapshot: Path) -> bool:
    if checked := _checked_sizes(repo, commit, part):
        files = {snapshot / name: size for name, size in checked.items()}
        return all(path.is_file() and path.stat().st_size == size for path, size in files.items())
    names = [path.name for path in snapshot.iterdir() if path.is_file()]
    chosen = _CHOOSERS[part](names)
    shards = sum(name.endswith((".safetensors", ".bin")) for name in chosen if name != _STATE)
    expected = [int(count) for name in chosen for count in re.findall(r"-of-(\d+)\.", name)[:1]]
    return "config.json" in chosen and shards == max(expected, default=shards)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
