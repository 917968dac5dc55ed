"""Packing and the integer product on every instruction set of this machine, against NumPy; the layout of records."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsparse.errors import EngineError, ModelError
from deepsparse.native import library, packed_file, packing, recognition, records, timing
from deepsparse.native.encoder import Activation
from deepsparse.native.library import WeightFormat
from deepsparse.native.packing import fastest

SOURCES = Path(library.__file__).parent / "csrc"

INTEGER_FORMATS = {form for form in WeightFormat if not form.is_float}

pytestmark = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")


def sparse(rows: int, columns: int, zeros: float, seed: int) -> np.ndarray:
    """Random int8 weights, -128 and 127 among them, a share of them zero."""
    source = np.random.default_rng(seed)
    weights = source.integers(-128, 128, (rows, columns), dtype=np.int8)
    weights[source.random((rows, columns)) < zeros] = 0
    return weights


def packed(form: WeightFormat, weights: np.ndarray) -> np.ndarray:
    out = library.aligned(library.packed_size(form, weights))
    library.pack(form, weights, out)
    return out


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 70),
    st.one_of(st.integers(1, 200), st.sampled_from([511, 768, 1025, 3072])),
    st.integers(1, 150),
    st.sampled_from([0, 0.5, 0.8, 0.9, 0.99, 1]),
    st.integers(0, 2**32 - 1),
)
def test_products_are_exact(rows: int, columns: int, tokens: int, zeros: float, seed: int):
    weights = sparse(rows, columns, zeros, seed)
    x = np.random.default_rng(seed + 1).integers(0, 256, (tokens, columns), dtype=np.uint8)
    wanted = x.astype(np.int32) @ weights.T.astype(np.int32)
    for isa in library.isas():
        for form in isa.formats:
            found = library.multiply(isa, form, packed(form, weights), rows, columns, x)
            np.testing.assert_array_equal(found, wanted, err_msg=f"{isa.name} {form.name}")


@pytest.mark.parametrize("sign", [-128, 127])
def test_the_largest_sums_do_not_saturate(sign: int):
    """255 times -128, over and over: pairs of these overflow 16 bits, where `vpmaddubsw` would saturate."""
    weights = np.full((16, 3072), sign, np.int8)
    x = np.full((17, 3072), 255, np.uint8)
    for isa in library.isas():
        for form in isa.formats:
            found = library.multiply(isa, form, packed(form, weights), 16, 3072, x)
            assert (found == 255 * sign * 3072).all(), f"{isa.name} {form.name}"


def test_zeros_take_no_room():
    for form in INTEGER_FORMATS - {WeightFormat.DENSE, WeightFormat.DENSE_OCTETS}:
        sizes = {zeros: packed(form, sparse(64, 512, zeros, 0)).size for zeros in (0.5, 0.9, 1)}
        assert sizes[1] < sizes[0.9] < sizes[0.5]
        masks = 64 * 512 // 8 if form == WeightFormat.MASK64 else 0
        assert sizes[1] <= masks + 64 * 512 / 16


def test_row_sums_lie_before_the_weights():
    weights = sparse(37, 130, 0.5, 0)
    for form in INTEGER_FORMATS:
        sums = library.row_sums(packed(form, weights), 37)
        assert sums.size == 48 and not sums[37:].any()
        np.testing.assert_array_equal(sums[:37], weights.sum(axis=1, dtype=np.int32))


def test_instruction_sets_are_those_of_the_library():
    known = {one.name: (one.isa, {form.name for form in one.formats}) for one in library.instruction_sets()}
    assert known == {
        "i8mm": (1 << 18, {"DENSE_OCTETS", "SLOTS32"}),
        "dotprod": (1 << 17, {"DENSE", "SLOTS32"}),
        "neon": (1 << 16, {"DENSE", "SLOTS32"}),
        "amx": (8, {"DENSE", "SLOTS64", "MASK64"}),
        "avx512": (4, {"DENSE", "SLOTS64"}),
        "avxvnni": (16, {"DENSE", "CSR4"}),
        "avx2": (2, {"DENSE", "CSR4"}),
        "portable": (1, {"DENSE", "SLOTS64", "MASK64"}),
    }
    usable = library.isas()
    assert usable[-1].name == library.PORTABLE
    assert usable == [one for one in library.instruction_sets() if one in usable], "best first"


def test_weights_in_a_format_that_the_kernels_do_not_read_are_refused():
    weights = sparse(32, 128, 0.8, 0)
    x = np.zeros((1, 128), np.uint8)
    for isa in library.isas():
        for form in INTEGER_FORMATS - {*isa.formats}:
            with pytest.raises(ModelError, match="do not read"):
                library.multiply(isa, form, packed(form, weights), 32, 128, x)


def test_forms_are_chosen_by_measuring():
    for isa in library.isas():
        dense, empty = fastest(isa, [sparse(256, 768, 0.0, 0), sparse(256, 768, 1.0, 0)])
        assert dense.name.startswith("DENSE") and not empty.name.startswith("DENSE")


def test_a_loud_moment_does_not_change_the_choice(monkeypatch: pytest.MonkeyPatch):
    """While a third of the measurements is made, at any time, all takes four times as long."""
    isa = library.InstructionSet("any", 1, (WeightFormat.DENSE, WeightFormat.SLOTS64, WeightFormat.MASK64))
    calls, loud = 0, range(0)
    matrices = [sparse(64, 64, 0.5, seed) for seed in range(4)]
    least = 3 * len(matrices)  # measurements in which each format of each matrix has its turn

    def seconds(_: library.InstructionSet, products: list[timing.PackedMatrix], tokens: int) -> float:
        nonlocal calls
        calls += 1
        true = {WeightFormat.DENSE: 1.0, WeightFormat.SLOTS64: 2.0, WeightFormat.MASK64: 1.5}
        return true[products[0].format] * (4 if calls in loud else 1)

    monkeypatch.setattr(timing, "seconds", seconds)
    for begin in range(0, 60, 5):
        calls, loud = 0, range(begin, begin + least)
        assert fastest(isa, matrices) == [WeightFormat.DENSE] * len(matrices)


def test_damaged_packed_weights_are_refused():
    weights = sparse(32, 128, 0.8, 0)
    x = np.zeros((1, 128), np.uint8)
    for isa in library.isas():
        for form in isa.formats:
            whole = packed(form, weights)
            with pytest.raises(ModelError, match="packed weights"):
                library.multiply(isa, form, whole[: whole.size // 2 // 64 * 64], 32, 128, x)


def test_masks_with_more_bits_than_non_zeros_are_refused():
    weights = sparse(16, 64, 0.8, 0)
    whole = packed(WeightFormat.MASK64, weights)
    x = np.zeros((1, 64), np.uint8)
    for at in (*range(64, 72), *range(128, 128 + 128)):  # where the panel starts and ends, and its masks
        damaged = whole.copy()
        damaged[at] ^= 1
        with pytest.raises(ModelError, match="packed weights"):
            library.multiply(library.isas()[-1], WeightFormat.MASK64, damaged, 16, 64, x)


def test_a_forced_instruction_set(monkeypatch: pytest.MonkeyPatch):
    assert library.chosen_isa() == library.isas()[0]
    for isa in library.isas():
        monkeypatch.setenv("DEEPSPARSE_ISA", isa.name)
        assert library.chosen_isa() == isa
    monkeypatch.setenv("DEEPSPARSE_ISA", "avx3")
    with pytest.raises(EngineError, match="avx2"):
        library.chosen_isa()
    portable = library.isas()[-1:]
    monkeypatch.setattr(library, "isas", lambda: portable)
    monkeypatch.setenv("DEEPSPARSE_ISA", "avx512")
    with pytest.raises(EngineError, match="to be had here: portable"):
        library.chosen_isa()
    monkeypatch.setenv("DEEPSPARSE_ISA", "amx")
    with pytest.raises(EngineError, match="to be had here: portable"):
        library.chosen_isa()


def test_what_is_no_model_is_refused():
    for size in (8, 64, 4096):
        with pytest.raises(ModelError, match="refuses"):
            library.Model(library.aligned(size), 3)


def _camel(name: str) -> str:
    return name.title().replace("_", "")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_records_lie_as_the_library_reads_them(tmp_path: Path):
    """Sizes and offsets of every field, as the compiler says and as ctypes says."""
    laid_out = {
        "Grid": records.GridRecord,
        "Linear": records.LinearRecord,
        "Norm": records.NormRecord,
        "Table": records.TableRecord,
        "Layer": records.LayerRecord,
        "HeadLinear": records.HeadRecord,
        "Model": records.ModelRecord,
        "InstructionSet": library._Description,
        "TimedMatrix": library.TimedMatrix,
        "PackedFile": packed_file.FileRecord,
    }
    lines = [
        '#include "weight_formats.h"',
        '#include "packed_file.h"',
        "#include <cstddef>",
        "#include <cstdio>",
        "using namespace resparse;",
        "int main() {",
    ]
    wanted = []
    for name, record in laid_out.items():
        lines.append(f'std::printf("%zu\\n", sizeof({name}));')
        wanted.append(ctypes.sizeof(record))
        for field, *_ in record._fields_:
            lines.append(f'std::printf("%zu\\n", offsetof({name}, {field}));')
            wanted.append(getattr(record, field).offset)
    numbers = {
        "kMagic": records.MAGIC,
        "kVersion": records.VERSION,
        "kMaxHeadLinears": records.MOST_HEAD_LINEARS,
        "kMaxLayers": recognition.MOST_LAYERS,
        "kAlignment": packing.ALIGNMENT,
        "kPanelRows": library.PANEL_ROWS,
        "kEveryToken": 1,
        **{f"k{_camel(form.name)}": form for form in WeightFormat},
        **{f"k{_camel(kind.name)}": kind for kind in Activation},
    }
    for name, number in numbers.items():
        lines.append(f'std::printf("%llu\\n", (unsigned long long){name});')
        wanted.append(int(number))
    lines.append("}")
    (tmp_path / "sizes.cpp").write_text("\n".join(lines))
    subprocess.run(
        ["g++", "-std=c++17", f"-I{SOURCES}", str(tmp_path / "sizes.cpp"), "-o", str(tmp_path / "sizes")],
        check=True,
    )
    printed = subprocess.run([tmp_path / "sizes"], check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in printed.split()] == wanted
