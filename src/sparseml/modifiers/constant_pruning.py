"""Holding the zeros of a pruned model through fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field, PrivateAttr

from sparseml.modifiers.base import Modifier, ModifierError, Run, without_effect
from sparseml.modifiers.select import Selector, select_parameters

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle

DENSE_BELOW = 0.10
"""A start with fewer zeros than this is not a pruned model; see DESIGN, decision 5."""


class ConstantPruningModifier(Modifier):
    """Keeps every weight that is zero at its start at exactly zero.

    Gradients of pruned weights are zeroed by tensor hooks, before clipping, so that they never enter the
    norm and Adam's moments stay zero; after each step the weights are masked again.
    """

    label = "masks"
    one_shot = True

    params: Selector = Field(description="which parameters: names, re: patterns, __ALL__, __ALL_PRUNABLE__")
    update_frequency: float = without_effect(-1, "the mask is that of the start and never changes")

    _pruned: dict[str, torch.Tensor] = PrivateAttr(default_factory=dict)
    _held: list[tuple[torch.nn.Parameter, torch.Tensor]] = PrivateAttr(default_factory=list)
    _hooks: list[RemovableHandle] = PrivateAttr(default_factory=list)

    def on_start(self, run: Run) -> None:
        """Take the mask from the zeros (or from the resumed checkpoint) and hold it."""
        parameters = select_parameters(run.model, self.params, self.name)
        if not self._pruned:
            found = {name: parameter.detach() == 0 for name, parameter in parameters.items()}
            self._refuse_dense(found, run)
            self._pruned = found
        for name, pruned in self._pruned.items():
            parameter = parameters.get(name)
            if parameter is None or parameter.shape != pruned.shape:
                shape = "none" if parameter is None else list(parameter.shape)
                raise ModifierError(
                    f"{self.name}: the checkpoint's mask of {name} has shape {list(pruned.shape)}, but the model's "
                    f"parameter of that name has {shape}: the mask belongs to another model."
                )
            on_device = pruned.to(parameter.device)
            if on_device.any():
                self._held.append((parameter, on_device))
                self._hooks.append(_hook(parameter, on_device))
        self.after_step(run)

    def after_step(self, run: Run) -> None:
        """Mask the weights again: a zero stays exactly zero whatever the optimizer did."""
        import torch

        with torch.no_grad():
            for parameter, pruned in self._held:
                parameter.masked_fill_(pruned, 0.0)

    def on_end(self, run: Run) -> None:
        """Let go."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._held = [], []

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        """The masks, one bit a weight (uint8, `numpy.packbits` order), with their shapes."""
        import torch

        packed: dict[str, torch.Tensor] = {}
        for name, pruned in self._pruned.items():
            packed[f"{name}.pruned"] = pack_bits(pruned)
            packed[f"{name}.shape"] = torch.tensor(pruned.shape)
        return packed

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        """Take the masks of the run that this one resumes."""
        names = [key.removesuffix(".pruned") for key in state if key.endswith(".pruned")]
        self._pruned = {
            name: unpack_bits(state[f"{name}.pruned"], tuple(state[f"{name}.shape"].tolist()))
            for name in names
        }

    def _refuse_dense(self, found: Mapping[str, torch.Tensor], run: Run) -> None:
        total = sum(pruned.numel() for pruned in found.values())
        zeros = sum(int(pruned.sum()) for pruned in found.values())
        if zeros < DENSE_BELOW * total and not run.allow_dense_start:
            raise ModifierError(
                f"{self.name} holds the zeros of a pruned model, but of the {total:,} weights that it selects "
                f"only {zeros / max(total, 1):.1%} are zero: the result would be as dense as the start. Start from "
                "a pruned checkpoint (`sparsezoo search` lists some), or allow it with --allow_dense_start."
            )


def _hook(parameter: torch.nn.Parameter, pruned: torch.Tensor) -> RemovableHandle:
    # PyTorch takes hooks only where gradients flow; one that is frozen now may learn later.
    learns = parameter.requires_grad
    handle: RemovableHandle = parameter.requires_grad_(True).register_hook(
        lambda gradient: zero_where(gradient, pruned)
    )
    parameter.requires_grad_(learns)
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
    import math

    import numpy as np
    import torch

    bits = np.unpackbits(packed.cpu().numpy(), count=math.prod(shape))
    return torch.from_numpy(bits.astype(bool).reshape(shape))
