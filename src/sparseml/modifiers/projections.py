"""Projections of a student's states to a teacher's width, learned beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sparseml.modifiers.base import Run

if TYPE_CHECKING:
    import torch
    from torch import nn


class Projections:
    """Linear maps from the student's states to the teacher's width, with an optimizer of their own.

    Of their own: the Trainer's optimizer and its schedule are there already when the widths are first seen. They learn
    at the rate of the run's first parameter group.
    """

    def __init__(self, run: Run, loaded: Mapping[str, torch.Tensor]) -> None:
        self._run = run
        self._loaded = loaded
        self._weights: dict[int, nn.Parameter] = {}
        self._optimizers: dict[int, torch.optim.Optimizer] = {}

    def project(self, index: int, states: torch.Tensor, width: int) -> torch.Tensor:
        """The states of pair `index`, [..., own width], in the teacher's width."""
        if index not in self._weights:
            self._create(index, states, width)
        return states.float() @ self._weights[index].T

    def step(self, run: Run) -> None:
        """Learn from the gradients that the backward pass has left."""
        import torch

        for index, weight in self._weights.items():
            if weight.grad is None:
                continue
            weight.grad /= run.gradient_scale
            if run.world_size > 1:
                torch.distributed.all_reduce(weight.grad)
                weight.grad /= run.world_size
            optimizer = self._optimizers[index]
            if run.optimizer is not None:
                optimizer.param_groups[0]["lr"] = run.optimizer.param_groups[0]["lr"]
            if weight.grad.isfinite().all():
                optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and moments, `INDEX.weight`, `INDEX.exp_avg` and so on."""
        values = {
            key: value
            for key, value in self._loaded.items()
            if int(key.partition(".")[0]) not in self._weights
        }
        for index, weight in self._weights.items():
            values[f"{index}.weight"] = weight.detach()
            values |= {
                f"{index}.{key}": value for key, value in self._optimizers[index].state[weight].items()
            }
        return values

    def _create(self, index: int, states: torch.Tensor, width: int) -> None:
        import torch

        weight = self._loaded.get(f"{index}.weight")
        if weight is None:
            generator = torch.Generator().manual_seed(self._run.seed * 1_000_003 + index)
            weight = torch.randn(width, states.shape[-1], generator=generator) / states.shape[-1] ** 0.5
        parameter = torch.nn.Parameter(weight.clone().to(states.device))
        optimizer = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.0)
        moments = {
            key.partition(".")[2]: value.clone()
            for key, value in self._loaded.items()
            if key.startswith(f"{index}.") and not key.endswith(".weight")
        }
        if moments:
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(states.device) for key, value in moments.items()
            }
        self._weights[index], self._optimizers[index] = parameter, optimizer
