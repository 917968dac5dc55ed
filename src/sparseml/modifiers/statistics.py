"""Statistics of a model on batches, for pruning: gradients of its weights, and products of its layers' inputs.

Both in evaluation mode; neither touches `.grad`, the optimizer or the global random state.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparseml.modifiers.base import Batch, ModifierError
from sparseml.modifiers.select import is_transposed
from sparseml.processes import sum_over_processes


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every module is in the mode that it was in."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def gradients(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    batches: Iterable[Batch],
    count: int,
    rows: int | None,
    who: str,
) -> Iterator[list[Tensor]]:
    """Gradients of the loss of single batches.

    Args:
        model: its outputs have a `loss`, the batches have labels.
        parameters: whose gradients.
        batches: as many as are needed, or all that there are.
        count: gradients at most.
        rows: rows of a batch for one gradient: a larger batch is split. None: all of them.
        who: the modifier, for the error.

    Yields:
        One tensor for each parameter.

    Raises:
        ModifierError: the model gives no loss, or one that is not finite.
    """
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for batch in itertools.islice(_split(batches, rows), count):
            with evaluating(model), torch.enable_grad():
                loss = getattr(model(**batch), "loss", None)
                if loss is None:
                    raise ModifierError(
                        f"{who} needs the gradients of a loss, but the training data have no labels, or the model "
                        "has no head for them: give labelled data, or prune by magnitude."
                    )
                found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            if not bool(torch.stack([gradient.isfinite().all() for gradient in found]).all()):
                raise ModifierError(f"{who}: the loss of a training batch, or its gradient, is not finite.")
            yield list(found)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _split(batches: Iterable[Batch], rows: int | None) -> Iterator[Batch]:
    for batch in batches:
        length = len(next(iter(batch.values())))
        for begin in range(0, length, rows or length):
            yield {key: value[begin : begin + (rows or length)] for key, value in batch.items()}


class _SeenError(Exception):
    """Ends a forward pass: the observed layers were called as often as they are."""


def input_groups(
    model: nn.Module, layers: Mapping[str, nn.Linear], batch: Batch
) -> tuple[list[list[str]], dict[str, int]]:
    """The layers in the order in which the model first calls them; those that read the same tensor together.

    Args:
        model: the model.
        layers: by name. One that the model does not call comes last, alone.
        batch: to run the model on.

    Returns:
        The names; and how often each layer is called.
    """
    order: list[tuple[str, Tensor]] = []

    def record(name: str) -> Any:
        return lambda module, inputs: order.append((name, inputs[0]))

    with _hooks(layers, record), evaluating(model), torch.no_grad():
        model(**batch)
    groups: list[list[str]] = []
    calls, last = dict.fromkeys(layers, 0), None
    for name, read in order:
        if not calls[name] and read is last:
            groups[-1].append(name)
        elif not calls[name]:
            groups.append([name])
        last = read
        calls[name] += 1
    return groups + [[name] for name in layers if not calls[name]], calls


def input_products(
    model: nn.Module, layers: Mapping[str, nn.Linear], batches: Iterable[Batch], calls: int = 0
) -> dict[str, Tensor]:
    """X Xᵀ of each layer's inputs over all tokens that are attended to, and over all processes.

    Args:
        model: the model.
        layers: Linear, or GPT's Conv1D, by name; their inputs are [..., columns].
        batches: to run the model on.
        calls: leave the forward pass after that many calls of the layers; 0: never.

    Returns:
        By name, [columns, columns] in double precision; zeros for a layer that was not called.
    """
    products = {
        name: torch.zeros(columns, columns, dtype=torch.float64, device=module.weight.device)
        for name, module in layers.items()
        for columns in [sides(module)[1]]
    }
    attended: Tensor | None = None
    called = 0

    def observe(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal called
            read = inputs[0]
            if attended is not None and read.shape[:-1] == attended.shape:
                read = read[attended]
            flat = read.reshape(-1, read.shape[-1]).float()
            products[name] += flat.mT @ flat
            called += 1
            if called == calls:
                raise _SeenError

        return hook

    with _hooks(layers, observe), evaluating(model), torch.no_grad():
        for batch in batches:
            mask = batch.get("attention_mask")
            attended, called = None if mask is None else mask.bool(), 0
            with contextlib.suppress(_SeenError):
                model(**batch)
    return {name: sum_over_processes(product) for name, product in products.items()}


def sides(layer: nn.Linear) -> tuple[int, int]:
    """Outputs and inputs of a Linear layer, or of GPT's Conv1D, whose weight is transposed."""
    first, second = layer.weight.shape
    return (second, first) if is_transposed(layer) else (first, second)


@contextlib.contextmanager
def _hooks(layers: Mapping[str, nn.Linear], make: Any) -> Iterator[None]:
    handles = [layer.register_forward_pre_hook(make(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
