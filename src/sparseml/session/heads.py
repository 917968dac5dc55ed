"""The classifier of a start whose classes are not those of the data: its outputs are put in order, or made new."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sparseml.data.class_names import are_default_names, listed, order_by_name
from sparseml.data.label_encoding import REGRESSION, Labels
from sparseml.session.models import Loaded


def match_head(loaded: Loaded, theirs: Labels, ours: Labels) -> None:
    """Fit the last layer of a loaded classifier, in place, to the classes that it is to tell apart; adds notes.

    Classes are matched by their names. The outputs of the same classes in another order change places. Those of other
    classes are new: what was learned of them says nothing of ours. Where the start's have no names they are kept.

    Args:
        loaded: the model; its parameters that become new are added to `new`.
        theirs, ours: the labels of the start and of the data.
    """
    same_kind = theirs.kind == ours.kind and len(theirs.names) == len(ours.names)
    layer = _last_layer(loaded, len(ours.names))
    if not same_kind or ours.kind == REGRESSION or layer is None or theirs.names == ours.names:
        return
    name, linear = layer
    order = order_by_name(theirs.names, ours.names)
    if order is not None:
        if order != sorted(order):
            _reorder(linear, order)
            loaded.notes.append(f"classes of the start put in our order, by name: {listed(theirs.names)}")
    elif are_default_names(theirs.names):
        loaded.notes.append(
            f"the start's classes have no names; its classifier is taken for {listed(ours.names)}, in this order"
        )
    else:
        _initialize(linear, getattr(loaded.model.config, "initializer_range", 0.02))
        loaded.new += [f"{name}.{parameter}" for parameter, _ in linear.named_parameters()]
        loaded.notes.append(
            f"new, to be trained: {name}; the start's classes are others ({listed(theirs.names)}, not "
            f"{listed(ours.names)})"
        )


def _last_layer(loaded: Loaded, outputs: int) -> tuple[str, nn.Linear] | None:
    """The last Linear layer behind the encoder, with its path; None where it is new already, or there is none."""
    model: Any = loaded.model
    behind = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(f"{model.base_model_prefix}.")
    ]
    if not behind or behind[-1][1].out_features != outputs or f"{behind[-1][0]}.weight" in loaded.new:
        return None
    return behind[-1]


def _initialize(linear: nn.Linear, deviation: float) -> None:
    """As Transformers does, whose own function passes over parameters that were loaded."""
    nn.init.normal_(linear.weight, std=deviation)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def _reorder(linear: nn.Linear, order: list[int]) -> None:
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(parameter[order].clone())
