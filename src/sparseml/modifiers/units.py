"""Units of an encoder that are pruned whole: attention heads, feed-forward neurons, and single rows or columns.

The table says where the architectures of Transformers have their heads and neurons, relative to a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sparseml.modifiers.base import ModifierError

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal["head", "neuron", "filter", "channel"]
"""Filters are outputs of a Linear layer, rows of its weight; channels are inputs, columns."""

# Query, key, value and output of a layer's attention.
ATTENTION = (
    ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),  # DistilBERT
    ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),  # MPNet
    ("attention.query", "attention.key", "attention.value", "attention.dense"),  # ALBERT
)
# The Linear layers before and after the activation function.
_FEED_FORWARD = (
    ("intermediate.dense", "output.dense"),
    ("ffn.lin1", "ffn.lin2"),  # DistilBERT
    ("ffn", "ffn_output"),  # ALBERT
)


@dataclass(frozen=True)
class Part:
    """What the units of a block have of one parameter: `size` consecutive entries of dimension `dim` each.

    Attributes:
        parameter: its name.
        dim: 0 are outputs (rows of a weight, entries of a bias), 1 inputs (columns).
        size: of a unit.
    """

    parameter: str
    dim: int
    size: int


@dataclass(frozen=True)
class Block:
    """Units that are alike: the heads of one attention, the neurons of one feed-forward part, rows of one weight.

    Attributes:
        name: for messages and masks; that of the layer and the kind, or of the weight.
        kind: what its units are.
        units: how many there are.
        parts: all that belongs to the units. Of heads and neurons the last one reads what the others compute.
    """

    name: str
    kind: Kind
    units: int
    parts: tuple[Part, ...]

    @property
    def gates(self) -> tuple[Part, ...]:
        """The parts whose entries, times a factor for each unit, are what the unit's output times that factor is."""
        return self.parts[-1:] if self.kind in ("head", "neuron") else self.parts

    def weights(self) -> list[Part]:
        """The parts that are no biases."""
        return [part for part in self.parts if not part.parameter.endswith(".bias")]


def blocks(model: nn.Module, kind: Kind, who: str) -> list[Block]:
    """As `find_blocks`.

    Raises:
        ModifierError: where they are is not known of this architecture.
    """
    found = find_blocks(model, kind)
    if not found:
        what = "attention heads" if kind == "head" else "feed-forward neurons"
        raise ModifierError(
            f"{who}: where {what} are is known of BERT, RoBERTa, ELECTRA, DistilBERT, MPNet and ALBERT, and "
            f"{type(model).__name__} is built differently: leave them out of the recipe."
        )
    return found


def find_blocks(model: nn.Module, kind: Kind) -> list[Block]:
    """The model's attention heads or feed-forward neurons, a block a layer, in the model's order."""
    table = ATTENTION if kind == "head" else _FEED_FORWARD
    found = []
    for path, layer in model.named_modules():
        for members in table:
            linears = [_linear(layer, member) for member in members]
            if all(linear is not None for linear in linears):
                found.append(_block(path, members, linears, _unit_size(layer, members, kind), kind))
    return found


def attention_of(model: nn.Module, block: Block) -> nn.Module:
    """The module that computes the attention of a block of heads."""
    return model.get_submodule(block.parts[0].parameter.rpartition(".")[0].rpartition(".")[0])


def layer_list(model: nn.Module, who: str) -> tuple[str, nn.ModuleList]:
    """The encoder's layers, and their path.

    Raises:
        ModifierError: the model has no list of layers that each have an attention and a feed-forward part.
    """
    from torch import nn

    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) and all(_is_layer(layer) for layer in module):
            return path, module
    raise ModifierError(
        f"{who}: {type(model).__name__} has no list of layers as BERT, RoBERTa, ELECTRA, DistilBERT and MPNet have "
        "(those of ALBERT are one and the same layer): leave the modifier out of the recipe."
    )


def lines(names: Sequence[str], units: int, kind: Kind) -> Block:
    """Filters or channels of weights, those of equal index together, as a block that is called as the first weight."""
    dim = 0 if kind == "filter" else 1
    return Block(names[0], kind, units, tuple(Part(name, dim, 1) for name in names))


def by_unit(values: torch.Tensor, part: Part) -> torch.Tensor:
    """Values laid out as the part's parameter, [units, all that a unit has of them]."""
    moved = values.movedim(part.dim, 0)
    return moved.reshape(moved.shape[0] // part.size, -1)


def _block(
    path: str, members: Sequence[str], linears: Sequence[nn.Linear | None], size: int, kind: Kind
) -> Block:
    parts = []
    for member, linear in zip(members[:-1], linears[:-1], strict=True):
        parts.append(Part(f"{path}.{member}.weight", 0, size))
        if linear is not None and linear.bias is not None:
            parts.append(Part(f"{path}.{member}.bias", 0, size))
    parts.append(Part(f"{path}.{members[-1]}.weight", 1, size))
    output = linears[-1]
    assert output is not None
    return Block(f"{path}.{kind}s", kind, output.weight.shape[1] // size, tuple(parts))


def _unit_size(layer: nn.Module, members: Sequence[str], kind: Kind) -> int:
    if kind == "neuron":
        return 1
    attention: Any = layer.get_submodule(members[0].rpartition(".")[0])
    return int(attention.attention_head_size)


def _linear(layer: nn.Module, path: str) -> nn.Linear | None:
    from torch import nn

    try:
        module = layer.get_submodule(path)
    except AttributeError:
        return None
    return module if isinstance(module, nn.Linear) else None


def _is_layer(layer: nn.Module) -> bool:
    return any(all(_linear(layer, member) is not None for member in members) for members in _FEED_FORWARD[:2])
