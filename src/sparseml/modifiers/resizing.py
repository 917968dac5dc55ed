"""Making a model smaller in place: units of its layers, or whole layers, go; optimizer and modifiers follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparseml.modifiers.resized import Resized
from sparseml.modifiers.units import Block, attention_of, find_blocks

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparseml.modifiers.base import Run


def keep_units(run: Run, kept: Sequence[tuple[Block, torch.Tensor]]) -> None:
    """Keep some units of blocks, and remove the others.

    Parameters are replaced, in the model and in the optimizer, whose moments are cut along; sizes of modules, ranges of
    quantizers and the configuration follow.

    Args:
        run: the run.
        kept: indices of the units that stay, by block; at least one of each.
    """
    indices: dict[str, list[torch.Tensor | None]] = {}
    for block, units in kept:
        for part in block.parts:
            dims = indices.setdefault(part.parameter, [None] * run.model.get_parameter(part.parameter).ndim)
            dims[part.dim] = entries(units, part.size)
    resized = Resized(kept=indices)
    replaced = {}
    for name in indices:
        old = run.model.get_parameter(name)
        replaced[old] = _replace(run.model, name, resized)
        _cut_state(run.optimizer, old, replaced[old], name, resized)
    _exchange(run, replaced)
    for block, units in kept:
        if block.kind == "head":
            _set_heads(attention_of(run.model, block), len(units))
    _announce(run, resized)


def keep_first(run: Run, sizes: Mapping[Block, int]) -> None:
    """Shrink blocks to their first units, for a model whose weights come from a checkpoint of that shape."""
    import torch

    smaller = [(block, torch.arange(size)) for block, size in sizes.items() if 0 < size < block.units]
    if smaller:
        keep_units(run, smaller)
        set_width(run.model)


def set_width(model: nn.Module) -> None:
    """Write the number of neurons into the configuration, if it is the same in all layers."""
    config: Any = model.config
    widths = {block.units for block in find_blocks(model, "neuron")}
    if len(widths) == 1:
        name = "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size"
        setattr(config, name, widths.pop())


def keep_layers(run: Run, path: str, kept: Sequence[int]) -> None:
    """Keep some layers of the list at `path`, numbered anew; the others leave the model and the optimizer."""
    from torch import nn

    model: Any = run.model
    layers = list(model.get_submodule(path).children())
    moved: dict[str, str | None] = {f"{path}.{index}": None for index in range(len(layers))}
    moved |= {f"{path}.{old}": f"{path}.{new}" for new, old in enumerate(kept)}
    gone = [layer for index, layer in enumerate(layers) if index not in kept]
    remaining = nn.ModuleList([layers[index] for index in kept])
    remaining.train(model.get_submodule(path).training)
    model.set_submodule(path, remaining)
    numbered: list[tuple[int, Any]] = [
        (number, part) for number, layer in enumerate(remaining) for part in layer.modules()
    ]
    for number, module in numbered:
        if hasattr(module, "layer_idx"):
            module.layer_idx = number
    encoder = model.get_submodule(path.rpartition(".")[0])
    if hasattr(encoder, "n_layers"):
        encoder.n_layers = len(remaining)
    model.config.num_hidden_layers = len(remaining)
    _exchange(run, {parameter: None for layer in gone for parameter in layer.parameters()})
    _announce(run, Resized(moved=moved))


def entries(units: torch.Tensor, size: int) -> torch.Tensor:
    """The indices of units' entries, `size` of each, from the units' indices."""
    import torch

    return (units[:, None] * size + torch.arange(size, device=units.device)).reshape(-1)


def _replace(model: nn.Module, name: str, resized: Resized) -> nn.Parameter:
    """A new parameter in the place of one: its gradient accumulator knows the old shape."""
    from torch import nn

    path, _, leaf = name.rpartition(".")
    module: Any = model.get_submodule(path)
    old: nn.Parameter = getattr(module, leaf)
    new = nn.Parameter(resized.cut(name, old.detach()).clone(), old.requires_grad)
    setattr(module, leaf, new)
    if leaf == "weight":
        module.out_features, module.in_features = new.shape
        rows = resized.kept[name][0]
        for child in module.children():
            for key, buffer in child.named_buffers():
                if rows is not None and buffer.ndim == 2 and len(buffer) == len(old):  # one scale an output
                    setattr(child, key, buffer.index_select(0, rows.to(buffer.device)))
    return new


def _cut_state(optimizer: Any, old: nn.Parameter, new: nn.Parameter, name: str, resized: Resized) -> None:
    """The optimizer's state of a parameter; one of another layout than the parameter's begins anew."""
    import torch

    state = optimizer.state.get(old) if optimizer is not None else None
    if not state:
        return
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor) and value.ndim}
    if all(value.shape == old.shape for value in tensors.values()):
        optimizer.state[new] = state | {key: resized.cut(name, value) for key, value in tensors.items()}


def _exchange(run: Run, replaced: Mapping[nn.Parameter, nn.Parameter | None]) -> None:
    """Take the new parameters, in place of the old ones, into the optimizer and the run; None: the old one is gone."""
    changed = {id(old): new for old, new in replaced.items()}
    now = (changed.get(key, key) for key in run.decayed)
    run.decayed = frozenset(new if isinstance(new, int) else id(new) for new in now if new is not None)
    if run.optimizer is None:
        return
    for group in run.optimizer.param_groups:
        exchanged = [replaced.get(parameter, parameter) for parameter in group["params"]]
        group["params"] = [parameter for parameter in exchanged if parameter is not None]
    for old in replaced:
        run.optimizer.state.pop(old, None)


def _set_heads(attention: Any, heads: int) -> None:
    for name in ("num_attention_heads", "n_heads"):
        if hasattr(attention, name):
            setattr(attention, name, heads)
    if hasattr(attention, "all_head_size"):
        attention.all_head_size = heads * attention.attention_head_size


def _announce(run: Run, resized: Resized) -> None:
    if run.resized is not None:
        run.resized(resized)
