"""Supervised contrastive steps on the rows of a classifier, before its head is fitted: texts of a class move together.

Khosla et al. 2020, Supervised Contrastive Learning (arXiv:2004.11362), equation 2, on what the classifier reads. A few
rows make many pairs, so that an encoder learns more of them than by their labels alone (Tunstall et al. 2022, Efficient
Few-Shot Learning Without Prompts, arXiv:2209.11055, which compares the pairs by a regression).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from resparse.arrays import Array
from resparse.progress import track
from sparseml.modifiers.masks import Masks

TEMPERATURE: Final = 0.1
_MOST_IN_BATCH, _LEAST_A_CLASS = 32, 2
_RATE: Final = 1e-4
_WARM_UP: Final = 0.1
_NORM: Final = 1.0


def contrastive_loss(features: Tensor, truth: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The loss of a batch: a scalar; 0 where no two rows have one class.

    Args:
        features: [rows, width], of any length.
        truth: [rows] class ids.
    """
    unit = nn.functional.normalize(features.float(), dim=1)
    likeness = unit @ unit.T / temperature
    itself = torch.eye(len(truth), dtype=torch.bool, device=truth.device)
    log_shares = likeness - likeness.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    alike = (truth[:, None] == truth[None]) & ~itself
    counts = alike.sum(dim=1)
    of_rows = -(log_shares * alike).sum(dim=1)[counts > 0] / counts[counts > 0]
    return of_rows.mean() if len(of_rows) else features.sum() * 0.0


def contrast(
    model: nn.Module,
    layer: nn.Linear,
    rows: Any,
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]],
    steps: int,
    seed: int,
) -> None:
    """Train the encoder by contrast, in place; zeros stay zeros, embeddings and `layer` stay as they are.

    Args:
        model: a sequence classifier.
        layer: its last layer, whose inputs are compared.
        rows: encoded, with one class id each as `labels`.
        collate: from rows to a batch.
        steps: of the optimizer.
        seed: of the order of the rows and of dropout.
    """
    truth = np.asarray(rows["labels"])
    still = {id(parameter) for parameter in (*layer.parameters(), *_embeddings(model))}
    learned = [parameter for parameter in model.parameters() if id(parameter) not in still]
    masks, parameters = Masks(), dict(model.named_parameters())
    masks.pruned = {
        name: parameter.detach() == 0
        for name, parameter in parameters.items()
        if id(parameter) not in still and parameter.ndim == 2
    }
    # Without a gradient and without decay, Adam leaves a weight as it is.
    masks.hold(parameters, "contrast")
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    optimizer = torch.optim.AdamW(learned, lr=_RATE, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (_WARM_UP * steps), 1.0) * (1 - step / steps)
    )
    training, device = model.training, next(model.parameters()).device
    model.train()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for chosen in track(list(batches(truth, steps, seed)), "contrastive steps", total=steps):
                batch = {
                    name: value.to(device) for name, value in collate([rows[int(i)] for i in chosen]).items()
                }
                labels = batch.pop("labels")
                seen.clear()
                model(**batch)
                contrastive_loss(seen[0], labels).backward()
                nn.utils.clip_grad_norm_(learned, _NORM)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
    finally:
        hook.remove()
        masks.release()
        model.zero_grad()
        model.train(training)


def can_contrast(truth: Array) -> bool:
    """Whether two classes have rows enough to compare: with one alone, all texts would move together."""
    return len(_classes(truth)) > 1


def batches(truth: Array, steps: int, seed: int) -> Iterator[Array]:
    """Indices of the rows of each batch: as many of each class, and at least two; of many classes, some."""
    generator = np.random.default_rng(seed)
    own = _classes(truth)
    classes = min(len(own), _MOST_IN_BATCH // _LEAST_A_CLASS)
    for _ in range(steps):
        chosen = generator.choice(len(own), classes, replace=False)
        each = _MOST_IN_BATCH // max(classes, 1)
        yield np.concatenate([generator.permutation(own[index])[:each] for index in chosen])


def _classes(truth: Array) -> list[Array]:
    """The rows of each class that has enough."""
    own = [np.flatnonzero(truth == label) for label in np.unique(truth)]
    return [indices for indices in own if len(indices) >= _LEAST_A_CLASS]


def _embeddings(model: nn.Module) -> Iterator[nn.Parameter]:
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            yield from module.parameters()
