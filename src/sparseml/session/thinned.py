"""Loading checkpoints whose layers have fewer heads or neurons than config.json can say; see LayerThinningModifier."""

from __future__ import annotations

from collections.abc import Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sparseml.modifiers import Clock, Run
from sparseml.modifiers.resizing import keep_first
from sparseml.modifiers.units import Block, Kind, find_blocks


def load_thinned(model: Any, folder: Path, mismatched: Set[str]) -> set[str]:
    """Shrink a model's layers to the shapes of the weights in a folder, and load these.

    Args:
        model: built by the configuration alone; the other weights are loaded.
        folder: with the weights as safetensors.
        mismatched: parameters whose shapes in the folder are others.

    Returns:
        The parameters that were loaded: those of layers with fewer heads or neurons. Others are left as they are.
    """
    with ExitStack() as files:
        stored: dict[str, Any] = {}
        for path in sorted(folder.glob("model*.safetensors")):
            file = files.enter_context(safe_open(path, framework="pt"))
            stored |= dict.fromkeys(file.keys(), file)
        found = {
            name: (key, stored[key])
            for name in mismatched
            for key in _keys(name, model.base_model_prefix)
            if key in stored
        }
        shapes = {name: file.get_slice(key).get_shape() for name, (key, file) in found.items()}
        keep_first(Run(model, Clock(1, 0)), _sizes(model, shapes))
        loaded = set()
        for name, (key, file) in found.items():
            parameter = model.get_parameter(name)
            if list(parameter.shape) == shapes[name]:
                with torch.no_grad():
                    parameter.copy_(file.get_tensor(key))
                loaded.add(name)
    return loaded


def _keys(name: str, prefix: str) -> tuple[str, ...]:
    """What a parameter may be called in the file: with or without the prefix of the model's body."""
    return name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}"


def _sizes(model: Any, shapes: dict[str, list[int]]) -> dict[Block, int]:
    """The number of units that a file has of each block that differs."""
    kinds: tuple[Kind, ...] = ("head", "neuron")
    sizes = {}
    for kind in kinds:
        for block in find_blocks(model, kind):
            part = block.parts[-1]
            if part.parameter in shapes and len(shapes[part.parameter]) == 2:
                sizes[block] = shapes[part.parameter][part.dim] // part.size
    return sizes
