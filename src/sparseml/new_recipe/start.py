"""What a recipe must know of the model that it starts from: its zeros, width, and the names of its modules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparseml.modifiers.masks import DENSE_BELOW
from sparseml.modifiers.select import ALL_PRUNABLE, select_modules

if TYPE_CHECKING:
    from torch import nn

SUBMODULES = ("bert.embeddings", "bert.encoder", "bert.pooler", "classifier")
"""The parts of a classifier as recipes for any architecture call them."""


@dataclass(frozen=True)
class Start:
    """A model to start from.

    Attributes:
        called: as the user named it; empty for the embedded one.
        architecture: its model type; empty where the model was not looked at.
        sparsity: share of zeros in its encoder's matrices.
        width: hidden size.
        submodules: its own names of `SUBMODULES`.
        prunable: entries for `params` that select the matrices of its encoder.
        shapes: of these matrices, by parameter name.
    """

    called: str
    architecture: str
    sparsity: float
    width: int
    submodules: tuple[str, ...] = SUBMODULES
    prunable: tuple[str, ...] = (ALL_PRUNABLE,)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return self.called or "the embedded model"

    @property
    def sparse(self) -> bool:
        """Whether `!ConstantPruningModifier` takes it for a pruned model."""
        return self.sparsity >= DENSE_BELOW


def inspect(called: str, task: Any) -> Start:
    """Load a model and describe it.

    Args:
        called: a folder, a stub or a Hub id.
        task: the `Task` that it is to learn.

    Raises:
        ZooError, ModelError, ModifierError: it cannot be had or read, or has no encoder.
    """
    from sparseml.session.models import load_model, resolve

    model = load_model(resolve(called), task.model_class).model
    return describe(called, model)


def describe(called: str, model: nn.Module) -> Start:
    """A `Start` of a loaded model."""
    found, _ = select_modules(model, list(SUBMODULES), "sparseml recipe new")
    encoder, _ = select_modules(model, ["bert.encoder"], "sparseml recipe new")
    weights = _matrices(model, tuple(encoder))
    zeros = sum(weight.numel() - int(weight.count_nonzero()) for weight in weights.values())
    config: Any = model.config
    return Start(
        called=called,
        architecture=str(config.model_type),
        sparsity=zeros / max(sum(weight.numel() for weight in weights.values()), 1),
        width=int(config.hidden_size),
        submodules=tuple(found),
        prunable=_entries(tuple(encoder), weights, model),
        shapes={name: tuple(weight.shape) for name, weight in weights.items()},
    )


def _matrices(model: nn.Module, paths: tuple[str, ...]) -> dict[str, Any]:
    """The weights of the Linear layers below some modules, by name."""
    from torch import nn

    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(name.startswith(f"{path}.") for path in paths)
    }


def _entries(paths: tuple[str, ...], weights: dict[str, Any], model: nn.Module) -> tuple[str, ...]:
    """A pattern for each module that matches exactly these weights; the names themselves where there is none."""
    leaves = "|".join(sorted({name.split(".")[-2] for name in weights}))
    patterns = tuple(rf"re:{re.escape(path)}\..*\b({leaves})\.weight" for path in paths)
    matched = {
        name for name, _ in model.named_parameters() for pattern in patterns if re.match(pattern[3:], name)
    }
    return patterns if matched == set(weights) else tuple(weights)
