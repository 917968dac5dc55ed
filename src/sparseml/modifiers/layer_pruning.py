"""Layer pruning: whole encoder layers are removed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from sparseml.modifiers.base import Clock, Modifier, ModifierError, Run
from sparseml.modifiers.units import layer_list

if TYPE_CHECKING:
    import torch
    from torch import nn

_LAYER = re.compile(r"^(\w+\.)?(encoder|transformer)\.layer\.(\d+)$")
"""A layer as any of the architectures calls it: recipes are written for BERT's names."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, int)) else value


class LayerPruningModifier(Modifier):
    """Removes encoder layers at its start; those that remain are numbered anew, as Transformers loads them.

    Names and numbers mean the layers of the model that the training starts from, also where another one of these
    modifiers has removed some before. Several with different starts remove layers gradually.
    """

    one_shot = True
    loads = -2

    layers: Annotated[list[int | str] | None, BeforeValidator(_as_list)] = Field(
        None,
        min_length=1,
        description="which are removed: numbers from 0 (-1 is the last), names such as bert.encoder.layer.5, or re: "
        "patterns",
    )
    num_layers: int | None = Field(
        None,
        ge=1,
        description="in place of layers: how many stay, evenly spread, the first and the last among them",
    )

    _gone: list[nn.Module] = PrivateAttr(default_factory=list)
    _done: bool = PrivateAttr(False)

    @model_validator(mode="after")
    def _one_choice(self) -> LayerPruningModifier:
        if (self.layers is None) == (self.num_layers is None):
            raise ValueError("give either layers (those to remove) or num_layers (how many stay)")
        if self.end_epoch != -1 or self.end_step is not None:
            raise ValueError("a removed layer does not come back: leave end_epoch out")
        return self

    def structure(self, run: Run) -> None:
        """Find the layers."""
        path, layers = layer_list(run.model, self.name)
        self._gone = [layers[index] for index in self.indices(path, len(layers))]

    def indices(self, path: str, count: int) -> list[int]:
        """The numbers of the layers to remove, of `count` in the list at `path`.

        Raises:
            ModifierError: an entry is no layer, or none would stay.
        """
        if self.num_layers is not None:
            if self.num_layers > count:
                raise ModifierError(
                    f"{self.name}: num_layers is {self.num_layers}, but the model has only {count}."
                )
            stay = evenly_spread(self.num_layers, count)
            return [index for index in range(count) if index not in stay]
        gone = {index for entry in self.layers or () for index in self._match(entry, path, count)}
        if len(gone) == count:
            raise ModifierError(f"{self.name}: layers names all {count} layers; at least one must stay.")
        return sorted(gone)

    def on_start(self, run: Run) -> None:
        """Remove the layers; in a resumed run they are gone already."""
        if not self._done:
            self._remove(run)

    def conflicts_with(self, other: Modifier) -> str | None:
        """Names with numbers of layers would mean other layers than before."""
        if isinstance(other, LayerPruningModifier) or not self.overlaps(other):
            return None
        entries = [*(getattr(other, "params", None) or ()), *(getattr(other, "submodules", None) or ())]
        targets = getattr(other, "final_sparsity", None)
        if isinstance(targets, dict):
            entries += [entry for names in targets.values() for entry in names]
        numbered = [entry for entry in entries if re.search(r"\d", entry)]
        if not numbered:
            return None
        return (
            f"{self.name} numbers the layers anew, and {other.name} in line {other.place[1]} names some by number "
            f"({numbered[0]}): use patterns without numbers, or let one end before the other begins."
        )

    def final_from(self, clock: Clock) -> float:
        """Its start: before, the layers are there."""
        return self.first_step(clock)

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        what = f"{len(self.layers)} layers removed" if self.layers else f"reduced to {self.num_layers} layers"
        return [(self.first_step(clock), what)]

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        import torch

        return {"done": torch.tensor(self._done)}

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        """Make the model as small as the one whose weights will be loaded."""
        if bool(state["done"]) and not self._done:
            self._remove(run)

    def _remove(self, run: Run) -> None:
        from sparseml.modifiers.resizing import keep_layers

        path, layers = layer_list(run.model, self.name)
        kept = [index for index, layer in enumerate(layers) if not any(layer is gone for gone in self._gone)]
        if not kept:
            raise ModifierError(
                f"{self.name}: layers names all that other modifiers have left; one must stay."
            )
        if len(kept) < len(layers):
            keep_layers(run, path, kept)
        self._gone, self._done = [], True

    def _match(self, entry: int | str, path: str, count: int) -> list[int]:
        if isinstance(entry, str) and entry.startswith("re:"):
            try:
                found = [index for index in range(count) if re.fullmatch(entry[3:], f"{path}.{index}")]
            except re.error as error:
                raise ModifierError(
                    f"{self.name}: layers entry {entry!r} is no regular expression: {error}."
                ) from None
        elif isinstance(entry, str):
            named = _LAYER.match(entry)
            found = [int(named[3])] if named else [i for i in range(count) if entry == f"{path}.{i}"]
        else:
            found = [entry + count if entry < 0 else entry]
        if not found or not 0 <= found[0] < count:
            raise ModifierError(
                f"{self.name}: layers entry {entry!r} is no layer of this model, which has {path}.0 to "
                f"{path}.{count - 1}."
            )
        return found


def evenly_spread(stay: int, count: int) -> list[int]:
    """The numbers of `stay` of `count` layers, the first and the last among them; of 12 to 6: 0 2 4 7 9 11.

    So Sanh et al. 2019 (arXiv:1910.01108) took DistilBERT's from BERT's.
    """
    if stay == 1:
        return [0]
    return [round(index * (count - 1) / (stay - 1)) for index in range(stay)]
