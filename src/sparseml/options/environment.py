"""What the environment allows of a run: this machine's devices and precisions, and bounds on its size.

The bounds are for trying a command without changing it. A recipe counts in epochs: fewer rows make shorter epochs, so
that the bounded run still carries out its whole recipe, quantization included; `--max_steps` and fewer epochs would end
it before.
"""

from __future__ import annotations

import os
from typing import Any, Final

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from sparseml.options.groups import DataTrainingArguments, TrainingArguments
from sparseml.options.table import ArgumentError

ROWS: Final = "RESPARSE_MAX_ROWS"
"""Variable of the environment: rows of each split, at most."""

STEPS: Final = "RESPARSE_MAX_STEPS"
"""Variable of the environment: optimizer steps in each epoch, at most."""

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


def cap(data: DataTrainingArguments, training: TrainingArguments) -> list[str]:
    """Lower, in place, the numbers of rows to what the environment allows.

    Args:
        data: its `max_*_samples` are changed.
        training: says how many rows a step takes.

    Returns:
        A line for the user on each bound at work: what comes of such a run is no result.

    Raises:
        ArgumentError: a variable that is no whole number above 0.
    """
    notes = []
    rows, steps = _bound(ROWS), _bound(STEPS)
    if rows is not None:
        data.max_train_samples = _least(data.max_train_samples, rows)
        data.max_eval_samples = _least(data.max_eval_samples, rows)
        data.max_predict_samples = _least(data.max_predict_samples, rows)
        notes.append(f"{ROWS}={rows} is set: each split is cut to {rows:,} rows. For trying out only.")
    if steps is not None:
        a_step = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
        data.max_train_samples = _least(data.max_train_samples, steps * a_step)
        notes.append(
            f"{STEPS}={steps} is set: an epoch is cut to {steps:,} x {a_step:,} rows. For trying out only."
        )
    return notes


def _bound(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError(f"{name}={text}: give a whole number above 0, or unset the variable.")
    return int(text)


def _least(asked: int | None, bound: int) -> int:
    return bound if asked is None else min(asked, bound)
