"""How the benchmark of ARM's kernels reads a disassembly and counts what it needs."""

from __future__ import annotations

import pytest

TEXT = """
kernels.o:     file format elf64-littleaarch64

Disassembly of section .text:

0000000000000000 <void resparse::i8mm::multiply_slots_by<8u>(resparse::PackedMatrix const&)>:
   0:\tmov\tw3, #0x0                   \t// #0
   4:\tldrh\tw0, [x11], #2
   8:\tldp\tq0, q2, [x1]
   c:\tld1\t{v4.16b, v5.16b}, [x0]
  10:\ttbl\tv18.16b, {v4.16b, v5.16b}, v0.16b
  14:\tusdot\tv21.4s, v18.16b, v1.16b
  18:\tcmp\tx13, x1
  1c:\tb.ne\t4 <void resparse::i8mm::multiply_slots_by<8u>(resparse::PackedMatrix const&)+0x4>  // b.any
  20:\tadd\tw3, w3, #0x1
  24:\tcbnz\tw3, 0 <void resparse::i8mm::multiply_slots_by<8u>(resparse::PackedMatrix const&)>
  28:\tret

000000000000002c <resparse::i8mm::requantize(unsigned int)>:
  2c:\tld1\t{v30.16b-v1.16b}, [x0]
  30:\ttbl\tv5.16b, {v30.16b-v1.16b}, v6.16b
  34:\tscvtf\tv7.4s, v7.4s
  38:\tstr\tq7, [x2], #16
  3c:\tb.ne\t2c <resparse::i8mm::requantize(unsigned int)>  // b.any
"""


def test_innermost_loops_and_what_they_need():
    from arm_cost import PROCESSORS, loops

    found = loops(TEXT)
    assert set(found) == {"multiply_slots_by<8u>", "requantize"}
    (slots,) = found["multiply_slots_by<8u>"]
    assert slots.products() == 1
    assert slots.loaded == 2 + 2 * 16 + 2 * 16
    assert dict(slots.needs) == {
        "decode": 7,
        "load": 5,
        "vector": 2,
        "permute": 1,
        "multiply": 0,
        "shift": 0,
    }
    assert slots.cycles(PROCESSORS[0]) == pytest.approx(5 / 3)  # three loads a cycle
    (rounding,) = found["requantize"]
    assert rounding.loaded == 4 * 16
    assert rounding.needs["permute"] == 3 and rounding.needs["vector"] == 3 + 2 + 1


def test_the_sparser_the_fewer_slots():
    pytest.importorskip("deepsparse.native.library")
    from arm_cost import slots
    from deepsparse.native import library

    if library.file() is None:
        pytest.skip("the native engine is not built here")
    counts = [slots(64, 256, zeros) for zeros in (0.0, 0.5, 0.9, 1.0)]
    assert counts[0] == 64 * 256 / 32 and counts[-1] == 0
    assert counts == sorted(counts, reverse=True)
