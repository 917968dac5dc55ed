"""What the processes of one distributed training have in common: sums, extremes, and waiting for one another.

Alone, a process gets back what it gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch


# As launchers say them: torchrun and accelerate; Intel MPI, Open MPI and MVAPICH.
_COUNTS: Final = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def are_several() -> bool:
    """Whether there are other processes, and a way to them."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def count_of_processes() -> int:
    """How many processes a launcher has started to train together; 1 without one. Known before PyTorch is imported."""
    found = (os.environ.get(name, "") for name in _COUNTS)
    return next((int(text) for text in found if text.isdecimal()), 1)


def started_by_launcher() -> bool:
    """Whether a launcher has started this process, alone or as one of several."""
    return any(name in os.environ for name in _COUNTS)


def started_as_several() -> bool:
    """Whether a launcher has started this process as one of several."""
    return count_of_processes() > 1


def quiet_pytorch() -> None:
    """Of several processes, silence a warning of DDP; to be called before PyTorch is imported, which reads it then.

    DDP must look for parameters without a gradient, since a recipe freezes and frees them, and it warns at a step that
    has none.
    """
    if started_as_several():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    if are_several():
        from torch import distributed

        distributed.barrier()


def end_together() -> None:
    """End the connections to the other processes when all have come here.

    Of processes that just exit, the last may still be reading from one that has gone, and abort.
    """
    if are_several():
        from torch import distributed

        distributed.barrier()
        distributed.destroy_process_group()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, in place."""
    if are_several():
        from torch import distributed

        distributed.all_reduce(values)
    return values


def own_part(count: int) -> slice:
    """This process's part of so many things; the parts of all are about equal, and in the processes' order."""
    return _parts(count)[_rank()]


def sum_own_part(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of this one's part of the rows of a tensor (`own_part`); the others' are lost."""
    if not are_several():
        return values
    from torch import distributed

    for process, part in enumerate(_parts(len(values))):
        if part.start < part.stop:
            distributed.reduce(values[part], dst=process)
    return values[own_part(len(values))].clone()  # not a view, which would keep all of them


def from_own_parts(own: torch.Tensor, count: int) -> torch.Tensor:
    """A tensor of `count` rows, of which each process gives its part (`own_part`); all get all of them."""
    if not are_several():
        return own
    from torch import distributed

    whole = own.new_empty(count, *own.shape[1:])
    whole[own_part(count)] = own
    for process, part in enumerate(_parts(count)):
        if part.start < part.stop:
            distributed.broadcast(whole[part], src=process)
    return whole


def _parts(count: int) -> list[slice]:
    processes = _world_size()
    return [
        slice(count * process // processes, count * (process + 1) // processes)
        for process in range(processes)
    ]


def _rank() -> int:
    from torch import distributed

    return distributed.get_rank() if are_several() else 0


def _world_size() -> int:
    from torch import distributed

    return distributed.get_world_size() if are_several() else 1


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
