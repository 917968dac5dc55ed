"""Distributed training: of a model that becomes smaller on the way; and what a recipe cannot be carried out on."""

from __future__ import annotations

import os
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainingArguments

from sparseml.modifiers import ModifierError


def one_device(training: TrainingArguments) -> list[str]:
    """Keep one process to one GPU; returns a line where there are more.

    The Trainer would take all of them by DataParallel, whose replicas lose what modifiers keep in modules, and their
    hooks.
    """
    if training.n_gpu <= 1:
        return []
    count, training._n_gpu = training.n_gpu, 1
    return [f"One of {count} GPUs is used: `torchrun --nproc_per_node={count} -m ...` uses all of them."]


def refuse_sharding(fsdp: Any) -> None:
    """Refuse FSDP, asked for by an argument or by `accelerate launch --use_fsdp`.

    Its parameters are shards: hooks on their gradients do not run, masks of whole parameters do not fit them, sums over
    them are those of a shard, and `torch.autograd.grad`, which curvature is taken by, gives none. On CPUs Accelerate
    leaves FSDP out without a word.

    Args:
        fsdp: the argument of Transformers.

    Raises:
        ModifierError: it is asked for.
    """
    launched = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")
    if not fsdp and not launched:
        return
    raise ModifierError(
        f"{'--fsdp' if fsdp else 'accelerate launch --use_fsdp'} would cut each parameter into shards, but masks, "
        "ranges and curvature are of whole parameters. Leave it out: `torchrun --nproc_per_node=N -m ...` trains on N "
        "GPUs, each with the whole model. Where memory is short, take --gradient_checkpointing, or a smaller "
        "--per_device_train_batch_size and more --gradient_accumulation_steps."
    )


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
