"""Masks of pruned weights: chosen by score, held at zero while training, packed for checkpoints.

A mask is a boolean tensor of its parameter's shape, True where the weight is pruned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sparseml.modifiers.base import ModifierError

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle

    from sparseml.modifiers.resized import Resized


DENSE_BELOW = 0.10
"""A start with a smaller share of zeros than this is not a pruned model: its recipe is refused."""


class Masks:
    """Masks of a model's parameters by name, and the hooks that hold the pruned weights at zero.

    Tensor hooks zero the gradients of pruned weights as they are computed, before clipping: they enter neither
    the gradients' norm nor the optimizer's moments. The weights themselves are zeroed by `apply`, after each step.

    Attributes:
        pruned: the masks; on any device. After a change, `hold` again.
    """

    def __init__(self) -> None:
        self.pruned: dict[str, torch.Tensor] = {}
        self._held: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        self._hooks: list[RemovableHandle] = []

    def hold(
        self, parameters: Mapping[str, torch.nn.Parameter], who: str, hook_gradients: bool = True
    ) -> None:
        """Hold the masks on a model's parameters from now on, in place of those held before.

        Args:
            parameters: by name; at least those that have a mask.
            who: the modifier, for the error.
            hook_gradients: zero gradients by hooks. Without, a modifier may read those of pruned weights in
                `after_backward`, and calls `zero_gradients` then.

        Raises:
            ModifierError: a mask fits no parameter.
        """
        self.release()
        for name, pruned in self.pruned.items():
            parameter = parameters.get(name)
            if parameter is None or parameter.shape != pruned.shape:
                shape = "none" if parameter is None else list(parameter.shape)
                raise ModifierError(
                    f"{who}: the checkpoint's mask of {name} has shape {list(pruned.shape)}, but the model's "
                    f"parameter of that name has {shape}: the mask belongs to another model."
                )
            on_device = pruned.to(parameter.device)
            if on_device.any():
                self._held.append((parameter, on_device))
                if hook_gradients:
                    self._hooks.append(_hook(parameter, on_device))
        self.apply()

    def apply(self) -> None:
        """Zero the pruned weights: they stay exactly zero whatever the optimizer did."""
        import torch

        with torch.no_grad():
            for parameter, pruned in self._held:
                parameter.masked_fill_(pruned, 0.0)

    def zero_gradients(self) -> None:
        """Zero the gradients of the pruned weights, where no hooks did."""
        for parameter, pruned in self._held:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(pruned, 0.0)

    @property
    def held(self) -> bool:
        """Whether weights are held at zero now."""
        return bool(self._held)

    def follow(self, resized: Resized) -> None:
        """Cut and rename the masks as the parameters were; `hold` them again where they are held."""
        self.pruned = resized.follow(self.pruned)

    def release(self) -> None:
        """Remove the hooks; the weights are free, the masks are kept."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._held = [], []

    def state(self) -> dict[str, torch.Tensor]:
        """The masks for a checkpoint: `NAME.pruned`, one bit a weight, and `NAME.shape`."""
        import torch

        packed: dict[str, torch.Tensor] = {}
        for name, pruned in self.pruned.items():
            packed[f"{name}.pruned"] = pack_bits(pruned)
            packed[f"{name}.shape"] = torch.tensor(pruned.shape)
        return packed

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the masks that `state` gave."""
        names = [key.removesuffix(".pruned") for key in state if key.endswith(".pruned")]
        self.pruned = {
            name: unpack_bits(state[f"{name}.pruned"], tuple(state[f"{name}.shape"].tolist()))
            for name in names
        }


def smallest(
    scores: Mapping[str, torch.Tensor], sparsity: float, together: bool = False
) -> dict[str, torch.Tensor]:
    """Masks of the weights with the smallest scores, exactly counted; of equal scores the first in memory.

    Args:
        scores: by parameter name, without NaN; for magnitude pruning the weights' absolute values.
        sparsity: the share to prune, from 0 to 1: of each tensor, rounded to whole weights.
        together: of all tensors together, by one threshold (global pruning).

    Returns:
        Masks by name, on the scores' devices.
    """
    groups = [list(scores)] if together else [[name] for name in scores]
    masks: dict[str, torch.Tensor] = {}
    for group in groups:
        tensors = [scores[name].detach() for name in group]
        count = round(sparsity * sum(tensor.numel() for tensor in tensors))
        select = _smallest_on_cpu if all(tensor.is_cpu for tensor in tensors) else smallest_on_device
        masks |= dict(zip(group, select(tensors, count), strict=True))
    return masks


def _smallest_on_cpu(scores: Sequence[torch.Tensor], count: int) -> list[torch.Tensor]:
    """By NumPy, whose partition is faster on CPUs than PyTorch's `kthvalue`."""
    import torch

    from resparse.magnitude import smallest_entries

    # NumPy has no bfloat16.
    arrays = [score.to(torch.promote_types(score.dtype, torch.float32)).numpy() for score in scores]
    return [torch.from_numpy(mask) for mask in smallest_entries(arrays, count)]


def smallest_on_device(scores: Sequence[torch.Tensor], count: int) -> list[torch.Tensor]:
    """The masks of the `count` smallest scores, as `resparse.magnitude.smallest_entries` selects them.

    On the scores' device: a copy of all weights to the CPU at every update of the masks takes longer than the steps
    between two updates.
    """
    import torch

    if count == 0:
        return [torch.zeros_like(score, dtype=torch.bool) for score in scores]
    together = torch.cat([score.reshape(-1) for score in scores])
    threshold = together.kthvalue(count).values
    selected = together < threshold
    ties = together == threshold
    selected |= ties & (ties.cumsum(0) <= count - selected.sum())
    parts = selected.split([score.numel() for score in scores])
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]


def _hook(parameter: torch.nn.Parameter, pruned: torch.Tensor) -> RemovableHandle:
    # PyTorch takes hooks only where gradients flow; a parameter that is frozen now may be unfrozen later.
    trainable = parameter.requires_grad
    handle: RemovableHandle = parameter.requires_grad_(True).register_hook(
        lambda gradient: zero_where(gradient, pruned)
    )
    parameter.requires_grad_(trainable)
    return handle


def zero_where(gradient: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """The gradient with 0 where `pruned`; also where it is infinite or NaN, as in an overflowing fp16 step."""
    return gradient.masked_fill(pruned, 0.0)


def pack_bits(mask: torch.Tensor) -> torch.Tensor:
    """A boolean tensor as a flat uint8 tensor of 8 elements a byte, the first in the highest bit."""
    import numpy as np
    import torch

    return torch.from_numpy(np.packbits(mask.detach().cpu().numpy().reshape(-1)))


def unpack_bits(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """What `pack_bits` packed, in its shape."""
    import numpy as np
    import torch

    bits = np.unpackbits(packed.cpu().numpy(), count=math.prod(shape))
    return torch.from_numpy(bits.astype(bool).reshape(shape))
