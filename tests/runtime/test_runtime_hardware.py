"""What Linux says of processors, read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deepsparse import hardware

ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp sve i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
UNKNOWN = ARM.replace("0xd40", "0xabc").replace(" i8mm", "")
INTEL = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: sse avx2 avx512f avx512_vnni amx_int8\n"


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    yield
    hardware.isa.cache_clear()
    hardware.cpu_model.cache_clear()


@pytest.mark.parametrize(
    ("text", "model", "isa"),
    [
        (ARM, "Neoverse V1", "NEON i8mm"),
        (UNKNOWN, "0xabc", "NEON dot product"),
        (INTEL, "Intel(R) Xeon(R)", "AMX int8"),
    ],
    ids=["graviton3", "unknown", "intel"],
)
def test_name_and_instructions(
    text: str, model: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    hardware.isa.cache_clear()
    hardware.cpu_model.cache_clear()
    assert hardware.cpu_model() == model and hardware.isa() == isa
