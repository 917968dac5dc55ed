"""Limits of the environment: this machine's devices and precisions, and bounds on the size of a run.

The bounds are for trying a command without changing it. A recipe counts in epochs: with fewer rows epochs are shorter,
so that a bounded run still executes its whole recipe, quantization included; `--max_steps` or fewer epochs would not.
"""

from __future__ import annotations

import os
from typing import Any, Final

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from sparseml.options.groups import DataTrainingArguments, TrainingArguments
from sparseml.options.table import ArgumentError
from sparseml.processes import started_by_launcher

# Environment variables: the maximum number of rows of a split, and of optimizer steps in an epoch.
ROWS: Final = "RESPARSE_MAX_ROWS"
STEPS: Final = "RESPARSE_MAX_STEPS"

# Instructions that multiply bfloat16: PyTorch's names for them, and the vendors'.
_BFLOAT16: Final = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 BF16"), ("bf16", "NEON BF16"))


def accelerator() -> str | None:
    """The type of the training device ("cuda", "mps", "xla", ...); None for the CPU."""
    if is_torch_xla_available():
        return "xla"
    device = torch.accelerator.current_accelerator(check_available=True)
    return device.type if device is not None else None


def fit(values: dict[str, Any]) -> list[str]:
    """Replace, in place, settings that the machine does not support; returns a line about each.

    On a CPU, float16 becomes bfloat16, as PyTorch has no usable float16 autocast there, and `use_cpu` is set, as
    Transformers requires. On a CUDA GPU without bfloat16, bfloat16 becomes float16. `ddp_backend` is dropped for a
    single process, which would wait for a process group.
    """
    device = None if values.get("use_cpu") else accelerator()
    if device is None:
        values["use_cpu"] = True
        notes = _replace(values, "fp16", "bf16", "this run is on a CPU, where bfloat16 is the half precision")
        if values.get("ddp_backend") is not None and not started_by_launcher():
            del values["ddp_backend"]
            notes.append("--ddp_backend has no effect: this run is a single process.")
        return notes
    if device == "cuda" and not is_torch_bf16_gpu_available():
        return _replace(values, "bf16", "fp16", "this GPU has no bfloat16")
    return []


def _replace(values: dict[str, Any], requested: str, instead: str, reason: str) -> list[str]:
    notes = []
    for suffix in ("", "_full_eval"):
        if values.get(requested + suffix):
            values[requested + suffix] = False
            values[instead + suffix] = True
            notes.append(f"--{requested}{suffix} became --{instead}{suffix}: {reason}.")
    return notes


def fast_bfloat16() -> str | None:
    """The hardware whose bfloat16 is faster than float32, for messages; None where numbers are converted instead."""
    if accelerator() == "cuda":
        return "this GPU" if is_torch_bf16_gpu_available() else None
    if accelerator() is not None:
        return None
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return next((f"this processor's {name}" for flag, name in _BFLOAT16 if has.get(flag)), None)


def alone_after_all() -> list[str]:
    """A line where `accelerate launch` was to start several processes on CPUs: it starts one, but for MPI."""
    launched = "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ
    if not launched or started_by_launcher():
        return []
    return [
        "accelerate launch --cpu has started one process, whatever --num_processes says: `torchrun --nproc_per_node=N "
        "-m ...` starts N, or `accelerate launch --multi_gpu --num_processes N -m ...`, on CPUs too."
    ]


def cap(data: DataTrainingArguments, training: TrainingArguments) -> list[str]:
    """Lower, in place, the `max_*_samples` of `data` to the environment's bounds; returns a line about each bound."""
    notes = []
    rows, steps = _bound(ROWS), _bound(STEPS)
    if rows is not None:
        for name in ("max_train_samples", "max_eval_samples", "max_predict_samples"):
            setattr(data, name, _least(getattr(data, name), rows))
        notes.append(f"{ROWS}={rows} is set: each split is cut to {rows:,} rows. For trying out only.")
    if steps is not None:
        step_rows = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
        data.max_train_samples = _least(data.max_train_samples, steps * step_rows)
        notes.append(
            f"{STEPS}={steps} is set: an epoch is cut to {steps:,} x {step_rows:,} rows. For trying out only."
        )
    return notes


def fewer_steps(steps: int) -> int:
    """So many optimizer steps, or as many as the environment allows."""
    return _least(_bound(STEPS), steps)


def _bound(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError(f"{name}={text}: give a whole number above 0, or unset the variable.")
    return int(text)


def _least(requested: int | None, bound: int) -> int:
    return bound if requested is None else min(requested, bound)
