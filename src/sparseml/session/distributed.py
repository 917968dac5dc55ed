"""Distributed training of a model that becomes smaller on the way."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel


def rebuild(wrapper: nn.Module) -> None:
    """Make DDP's wrapper reduce the gradients of the parameters that its module has now, in place.

    Its buckets are laid out for the parameters that the module had when it was wrapped. Who holds the wrapper, such as
    the Trainer's loop, goes on with the same object. Any other module is left alone.
    """
    if not isinstance(wrapper, DistributedDataParallel):
        return
    settings: dict[str, Any] = {
        "device_ids": wrapper.device_ids,
        "output_device": wrapper.output_device,
        "dim": wrapper.dim,
        "broadcast_buffers": wrapper.broadcast_buffers,
        "process_group": wrapper.process_group,
        "find_unused_parameters": wrapper.find_unused_parameters,
        "gradient_as_bucket_view": wrapper.gradient_as_bucket_view,
        "static_graph": wrapper.static_graph,
    }
    module, training = wrapper.module, wrapper.training
    del wrapper.reducer  # it hooks the old parameters until it is freed
    wrapper.__init__(module, **settings)  # type: ignore[misc]
    wrapper.train(training)
