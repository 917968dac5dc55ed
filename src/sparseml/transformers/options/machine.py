"""Fit what was asked for to the machine, before Transformers refuses it."""

from __future__ import annotations

import os
from typing import Any, Final

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

# PyTorch's names for instructions that multiply bfloat16, and people's.
_BFLOAT16: Final = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 BF16"), ("bf16", "NEON BF16"))


def accelerator() -> str | None:
    """The type of the device that training would run on ("cuda", "mps", "xla", ...); None for the CPU."""
    if is_torch_xla_available():
        return "xla"
    device = torch.accelerator.current_accelerator(check_available=True)
    return device.type if device is not None else None


def fit(values: dict[str, Any]) -> list[str]:
    """Replace, in place, what the machine lacks by what comes nearest; say what was replaced.

    On a CPU, float16 becomes bfloat16 (PyTorch's CPU kernels have no float16 autocast worth the name) and
    `use_cpu` is set, which Transformers demands for bfloat16 there. On a CUDA GPU without bfloat16, bfloat16
    becomes float16. A backend for several processes is dropped where there is only one: Transformers would
    wait for a group that nobody forms.
    """
    device = None if values.get("use_cpu") else accelerator()
    if device is None:
        values["use_cpu"] = True
        notes = _replace(values, "fp16", "bf16", "this run is on a CPU, where bfloat16 is the half precision")
        if values.get("ddp_backend") is not None and "WORLD_SIZE" not in os.environ:
            del values["ddp_backend"]
            notes.append("--ddp_backend has no effect: this run is a single process.")
        return notes
    if device == "cuda" and not is_torch_bf16_gpu_available():
        return _replace(values, "bf16", "fp16", "this GPU has no bfloat16")
    return []


def _replace(values: dict[str, Any], asked: str, instead: str, reason: str) -> list[str]:
    notes = []
    for suffix in ("", "_full_eval"):
        if values.get(asked + suffix):
            values[asked + suffix] = False
            values[instead + suffix] = True
            notes.append(f"--{asked}{suffix} became --{instead}{suffix}: {reason}.")
    return notes


def fast_bfloat16() -> str | None:
    """What computes bfloat16 faster than float32 here, in words; None where nothing does.

    A processor without instructions for it converts every number back and forth, and is slower for it.
    """
    if accelerator() == "cuda":
        return "this GPU" if is_torch_bf16_gpu_available() else None
    if accelerator() is not None:
        return None
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return next((f"this processor's {name}" for flag, name in _BFLOAT16 if has.get(flag)), None)
