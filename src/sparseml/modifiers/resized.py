"""What has become of a model's parameters, for modifiers that keep something of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")


@dataclass(frozen=True)
class Resized:
    """What has become of a model's parameters.

    Attributes:
        moved: paths of modules that have another path now; None for those that are gone.
        kept: of parameters that are smaller now, the indices that stay of each dimension; None for all.
    """

    moved: Mapping[str, str | None] = field(default_factory=dict)
    kept: Mapping[str, Sequence[torch.Tensor | None]] = field(default_factory=dict)

    def path(self, path: str) -> str | None:
        """The present path of a module or parameter; None where it is gone."""
        for old, new in self.moved.items():
            if path == old or path.startswith(f"{old}."):
                return None if new is None else new + path.removeprefix(old)
        return path

    def cut(self, parameter: str, values: torch.Tensor) -> torch.Tensor:
        """What stays of values that are laid out as a parameter."""
        for dim, indices in enumerate(self.kept.get(parameter, ())):
            if indices is not None:
                values = values.index_select(dim, indices.to(values.device))
        return values

    def renamed(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Values by the present paths; without those of what is gone."""
        found = ((self.path(path), value) for path, value in values.items())
        return {path: value for path, value in found if path is not None}

    def follow(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors of parameters' shapes, by present names and in present shapes."""
        return self.renamed({name: self.cut(name, value) for name, value in values.items()})
