"""The processor: how many cores this process may use, and which vector instructions they have."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CPUINFO = Path("/proc/cpuinfo")

# Best first: the flag as Linux spells it, and the usual name.
_ISA = (
    ("amx_int8", "AMX int8"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512f", "AVX-512"),
    ("i8mm", "NEON i8mm"),
    ("asimddp", "NEON dot product"),
    ("avx2", "AVX2"),
)

# ARM processors, which Linux knows by numbers.
_PARTS = {
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse N1",
    "0xd40": "Neoverse V1",
    "0xd49": "Neoverse N2",
    "0xd4f": "Neoverse V2",
}


def usable_cores() -> int:
    """The cores that this process may use: its affinity, and a container's quota where that is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return allowed if quota is None else max(1, min(allowed, quota))


@cache
def isa() -> str:
    """The widest instructions for int8 that the processor has, such as "AVX-512 VNNI"."""
    flags = _flags()
    return next((name for flag, name in _ISA if flag in flags), platform.machine() or "unknown")


@cache
def cpu_model() -> str:
    """The processor's name."""
    found = re.search(r"^(?:model name|CPU part)\s*:\s*(.+)$", _read(_CPUINFO), re.MULTILINE)
    if found is None:
        return platform.processor() or platform.machine() or "unknown"
    return _PARTS.get(found.group(1).strip(), found.group(1).strip())


@cache
def cpu_identity() -> str:
    """All that tells one processor's kind from another's: virtual machines give different ones the same name."""
    first = _read(_CPUINFO).split("\n\n")[0]
    kept = (
        r"^((?:vendor_id|cpu family|model|model name|flags|CPU (?:implementer|variant|part)|Features)\s*:.*)$"
    )
    return "\n".join(re.findall(kept, first, re.MULTILINE)) or cpu_model()


def _quota() -> int | None:
    """A container's share of processor time, in whole cores; None where there is no limit."""
    quota, _, period = _read(_QUOTA).strip().partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return -(-int(quota) // int(period))


def _flags() -> frozenset[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read(_CPUINFO), re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
