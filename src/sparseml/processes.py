"""What the processes of one distributed training have in common: sums, extremes, and waiting for one another.

Alone, a process gets back what it gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def are_several() -> bool:
    """Whether there are other processes, and a way to them."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def started_as_several() -> bool:
    """Whether a launcher (torchrun, accelerate) has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    if are_several():
        from torch import distributed

        distributed.barrier()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, in place."""
    if are_several():
        from torch import distributed

        distributed.all_reduce(values)
    return values


def largest_of_processes(values: torch.Tensor) -> torch.Tensor:
    """The largest of each entry of a tensor over all processes, in place."""
    if are_several():
        from torch import distributed

        distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values


def summed_by_name(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The sums over all processes of numbers that each of them has under the same names."""
    import torch

    precise = torch.float32 if device.type == "mps" else torch.float64
    sums = sum_over_processes(torch.tensor(list(values.values()), dtype=precise, device=device))
    return dict(zip(values, sums.tolist(), strict=True))
