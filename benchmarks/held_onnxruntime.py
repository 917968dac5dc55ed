"""ONNX Runtime held to AVX2, on a processor that has more.

Its kernels are chosen by CPUID and XGETBV alone, and there is no switch. So a copy of the package is made in which
XGETBV, which tells what registers the system saves, is replaced by the answer of a system that saves those of AVX and
no wider ones: `mov al, 7`. CPUID is asked as ever. For measurements only.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

# XGETBV is three bytes, which occur within other instructions too: it is meant where the register that it reads is
# chosen just before (xor ecx, ecx), or its two halves are put together just after (mov eax, eax; shl rdx, 32).
_XGETBV = re.compile(rb"(?<=\x31\xc9)\x0f\x01\xd0|\x0f\x01\xd0(?=\x89\xc0\x48\xc1\xe2\x20)", re.DOTALL)
_SAVES_AVX = b"\xb0\x07\x90"  # mov al, 7; nop


def hold_to_avx2(folder: Path) -> Path:
    """Write the copy, where it is not there yet.

    Args:
        folder: where it goes.

    Returns:
        What to put first in PYTHONPATH.

    Raises:
        RuntimeError: this processor has AVX-VNNI, which is not told by XGETBV; or the library asks in another way.
    """
    if "avx_vnni" in Path("/proc/cpuinfo").read_text():
        raise RuntimeError("This processor has AVX-VNNI: ONNX Runtime cannot be held to AVX2 here.")
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        raise RuntimeError("onnxruntime is not installed.")
    package = folder / "onnxruntime"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(Path(found.origin).parent, package)
    for path in package.glob("capi/*pybind11_state*.so"):
        held, count = _XGETBV.subn(_SAVES_AVX, path.read_bytes())
        if count == 0:
            raise RuntimeError(f"{path.name} does not ask by XGETBV as its releases up to 1.32 do.")
        path.write_bytes(held)
    return folder
