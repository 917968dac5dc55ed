"""Packed models: exact, the same everywhere, small, and refused where damaged; unpacked once into the cache."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from sparsezoo import ZooError, embedded, local_path
from sparsezoo.index import EmbeddedWeights
from sparsezoo.packed import pack, quantized_rows, read_packed, unpack, write_packed

STUB = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/pruned80-none"
CARD = "# {percent} % pruned\n"

matrices = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-8, 8, width=16)
)


@given(matrices, st.floats(0, 1))
def test_matrices_come_back_as_half_precision_and_zeros_stay(
    values: NDArray[np.float32], share: float
) -> None:
    values.ravel()[: round(share * values.size)] = 0
    found = unpack(pack({"encoder.layer.0.dense.weight": values}))["encoder.layer.0.dense.weight"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float16).astype(np.float32))


@given(matrices)
def test_embeddings_come_back_as_rows_times_scales(values: NDArray[np.float32]) -> None:
    name = "embeddings.word_embeddings.weight"
    rows, scales = quantized_rows(values)
    found = unpack(pack({name: values}))[name]
    np.testing.assert_array_equal(found, rows.astype(np.float32) * scales[:, None])
    assert (np.abs(found - values) <= 0.5001 * scales[:, None] + 1e-30).all()


@given(hnp.arrays(np.float32, st.integers(0, 9), elements=st.floats(-1e9, 1e9, width=32)))
def test_vectors_come_back_as_they_were(values: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(unpack(pack({"bias": values}))["bias"], values)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e6])
def test_what_half_precision_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ZooError, match="half precision cannot hold"):
        pack({"dense.weight": np.full((2, 2), value, np.float32)})


def encoder(seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(8, 8)).astype(np.float32)
    weight[generator.random(weight.shape) < 0.8] = 0
    return {
        "embeddings.word_embeddings.weight": np.random.default_rng(1).normal(size=(10, 8)).astype(np.float32),
        "encoder.layer.0.output.dense.weight": weight,
        "encoder.layer.0.output.dense.bias": np.arange(8, dtype=np.float32),
    }


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_packed(tmp_path / name, encoder())
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "missing"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.npz"
    if damage != "missing":
        write_packed(path, encoder())
        content = path.read_bytes()
        changed = {
            "cut": content[:-40],
            "text": b"no model",
            "flipped": content[:200] + b"\xff\xff" + content[202:],
        }
        path.write_bytes(changed[damage])
    with pytest.raises(ZooError, match=r"model\.npz is no packed model"):
        read_packed(path)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as file, file.open("a.npy", "w") as stream:
        np.lib.format.write_array(stream, np.asarray([print]), allow_pickle=True)
    with pytest.raises(ZooError, match="no packed model"):
        read_packed(tmp_path / "model.npz")


@pytest.fixture
def weights(zoo_home: Path, tmp_path: Path) -> EmbeddedWeights:
    """A folder of two tiny models."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "card.md").write_text(CARD)
    for name, seed in (("pruned80", 0), ("pruned90", 5)):
        source = tmp_path / name
        source.mkdir()
        save_file(encoder(seed), source / "model.safetensors")
        for setting in embedded._SETTINGS:
            (source / setting).write_text("{}")
        embedded.embed(source, folder, name, {"percent": name[-2:]})
    return EmbeddedWeights(folder, "pruned80", "us")


def test_a_model_is_unpacked_once(weights: EmbeddedWeights) -> None:
    folder = embedded.model_folder(weights)
    tensors, expected = load_file(folder / "model.safetensors"), unpack(pack(encoder()))
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])
    assert (folder / "README.md").read_text() == "# 80 % pruned\n"
    before = (folder / "model.safetensors").stat()
    assert (embedded.model_folder(weights) / "model.safetensors").stat() == before


def test_another_content_is_unpacked_anew(weights: EmbeddedWeights, tmp_path: Path) -> None:
    first = embedded.model_folder(weights)
    save_file(encoder(9), tmp_path / "pruned80" / "model.safetensors")
    embedded.embed(tmp_path / "pruned80", weights.folder, "pruned80", {"percent": "80"})
    assert embedded.model_folder(weights) != first


def test_other_embeddings_do_not_join(weights: EmbeddedWeights, tmp_path: Path) -> None:
    changed = encoder() | {"embeddings.word_embeddings.weight": np.ones((10, 8), np.float32)}
    save_file(changed, tmp_path / "pruned80" / "model.safetensors")
    with pytest.raises(ZooError, match="other embeddings"):
        embedded.embed(tmp_path / "pruned80", weights.folder, "pruned70", {"percent": "70"})


def test_the_default_start_is_the_same_in_another_process_and_needs_no_torch(zoo_home: Path) -> None:
    code = (
        "import hashlib, sys; from sparsezoo import local_path; "
        f"path = local_path({STUB!r}) / 'model.safetensors'; assert 'torch' not in sys.modules; "
        "print(hashlib.sha256(path.read_bytes()).hexdigest())"
    )
    ours = hashlib.sha256((local_path(STUB) / "model.safetensors").read_bytes()).hexdigest()
    environment = {"SPARSEZOO_HOME": str(zoo_home.parent / "other"), "PYTHONPATH": ":".join(sys.path)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == ours
