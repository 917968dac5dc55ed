"""Results by processor: names of processors, and the page that sets them side by side."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("vendor_id : AuthenticAMD\ncpu family : 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC", "zen4"),
        ("vendor_id : AuthenticAMD\ncpu family : 25\nmodel : 1\nmodel name : AMD EPYC", "zen3"),
        ("vendor_id : AuthenticAMD\ncpu family : 26\nmodel : 2", "zen5"),
        ("vendor_id : GenuineIntel\nmodel name : Intel(R) Xeon\nflags : avx2 avx512f amx_int8", "intel-amx"),
        ("vendor_id : GenuineIntel\nflags : avx2 avx512f avx512_vnni", "intel-avx512-vnni"),
        ("CPU implementer : 0x41\nCPU part : 0xd40\nFeatures : i8mm", "neoverse-v1"),
        ("Some New (R) Processor", "some-new-r-processor"),
    ],
)
def test_a_processors_name(identity: str, name: str):
    from processors import name_of

    assert name_of(identity) == name


def test_the_committed_page_is_of_the_committed_tables():
    """`python benchmarks/processors.py` writes it anew."""
    from processors import PAGE, RESULTS, page

    assert (RESULTS / PAGE).read_text(encoding="utf-8") == page()
