"""Sparse encoders in few bytes: masks of bits with half-precision non-zeros, embeddings as int8 rows.

A packed file is NumPy's .npz, deflated, without pickles. Each tensor is stored in the first of these forms that fits:

    an embedding of 17 rows or more    NAME:rows int8 and NAME:scales float32 [rows]; the row is rows * scale
    a matrix with a fourth of zeros    NAME:mask, the bits of what is kept, row by row (`numpy.packbits`),
                                       NAME:kept float16, in that order, and NAME:shape
    another matrix                     NAME:half float16
    a vector                           NAME float32

Unpacking is exact: float16 to float32 loses nothing, and a product of float32 is rounded once, as IEEE 754 says. So the
weights are the same bits on every machine.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resparse.files import whole_file
from sparsezoo.common import ZooError

Tensors = Mapping[str, NDArray[Any]]

_EMBEDDING = re.compile(r"(?:.*\.)?embeddings\..*embeddings\.weight")
_SPARSE = 0.25
# Of token types: what tells two rows apart is little beside their size, and they cost nothing.
_FEW_ROWS = 16
_FORMS = {"rows": "embeddings", "mask": "sparse matrices", "half": "other matrices"}
_LARGEST_HALF = float(np.finfo(np.float16).max)


def pack(tensors: Tensors) -> dict[str, NDArray[Any]]:
    """Tensors in their packed forms, by the names that the module's docstring says.

    Raises:
        ZooError: a tensor has a value that half precision cannot hold.
    """
    packed: dict[str, NDArray[Any]] = {}
    for name, tensor in tensors.items():
        values = np.asarray(tensor, dtype=np.float32)
        if not np.isfinite(values).all() or (values.ndim > 1 and np.abs(values).max() > _LARGEST_HALF):
            raise ZooError(f"{name} has values that half precision cannot hold: it is not packed.")
        if values.ndim < 2:
            packed[name] = values
        elif _EMBEDDING.fullmatch(name) and len(values) > _FEW_ROWS:
            packed[f"{name}:rows"], packed[f"{name}:scales"] = quantized_rows(values)
        elif np.count_nonzero(values) <= (1 - _SPARSE) * values.size:
            kept = values != 0
            packed[f"{name}:mask"] = np.packbits(kept.ravel())
            packed[f"{name}:kept"] = values[kept].astype(np.float16)
            packed[f"{name}:shape"] = np.asarray(values.shape, dtype=np.int64)
        else:
            packed[f"{name}:half"] = values.astype(np.float16)
    return packed


def unpack(packed: Tensors) -> dict[str, NDArray[np.float32]]:
    """The tensors, float32, that `pack` packed."""
    tensors: dict[str, NDArray[np.float32]] = {}
    for key, values in packed.items():
        name, _, form = key.partition(":")
        match form:
            case "":
                tensors[name] = np.asarray(values, dtype=np.float32)
            case "half":
                tensors[name] = values.astype(np.float32)
            case "rows":
                tensors[name] = values.astype(np.float32) * packed[f"{name}:scales"][:, None]
            case "mask":
                shape = tuple(packed[f"{name}:shape"].tolist())
                if min(shape, default=0) < 0 or prod(shape) > 8 * values.size:
                    raise ValueError(f"{name} has {values.size} bytes of mask for the shape {shape}")
                dense = np.zeros(prod(shape), dtype=np.float32)
                dense[np.unpackbits(values, count=dense.size).astype(bool)] = packed[f"{name}:kept"]
                tensors[name] = dense.reshape(shape)
    return tensors


def quantized_rows(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 for each row of a matrix: integers [rows, columns] and scales [rows]."""
    scales = (np.abs(values).max(axis=1) / 127).astype(np.float32)
    safe = np.where(scales == 0, np.float32(1), scales)
    return np.rint(values / safe[:, None]).astype(np.int8), scales


def write_packed(path: Path, tensors: Tensors) -> None:
    """Pack tensors into a file, whole or not at all; the same tensors give the same bytes."""
    packed = pack(tensors)
    with (
        whole_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file,
    ):
        for name in sorted(packed):
            # With a date of its own each, numpy.savez would write other bytes every time.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with file.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(packed[name]), allow_pickle=False)


def read_packed(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a packed file.

    Raises:
        ZooError: the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            # Whole entries, whose checksums zipfile then compares; numpy.load stops before.
            arrays = {
                entry.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(file.read(entry)), allow_pickle=False
                )
                for entry in file.namelist()
            }
        return unpack(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        # RuntimeError: zipfile takes the damage for encryption, or for a compression that it does not know.
        raise ZooError(
            f"{path} is no packed model, or is damaged ({error}): install resparse again."
        ) from error


def rounding(tensors: Tensors) -> dict[str, float]:
    """The largest change that packing makes to an entry, by the form of the tensor."""
    packed = pack(tensors)
    restored = unpack(packed)
    largest: dict[str, float] = {}
    for name, tensor in tensors.items():
        form = next((form for form in _FORMS if f"{name}:{form}" in packed), "")
        change = float(np.abs(restored[name] - tensor).max(initial=0))
        largest[_FORMS.get(form, "vectors")] = max(change, largest.get(_FORMS.get(form, "vectors"), 0.0))
    return largest
