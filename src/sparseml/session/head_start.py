"""A new classifier that begins where logistic regression on the start's features ends, before any step of training.

With few rows a random classifier first sends random gradients through an encoder that was good already (Kumar et al.
2022, Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054): linear probing, then full training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from resparse.arrays import Array
from resparse.progress import track
from sparseml.data.label_encoding import MULTI, REGRESSION, Kind

_BATCH: Final = 32
_MOST_ROWS: Final = 5_000
_ITERATIONS: Final = 1_000

_STRENGTH: Final = 1.0
"""The inverse of the L2 penalty on the weights, for features of unit variance; from 0.1 to 10 the scores are alike."""


def begin_at_regression(
    model: nn.Module,
    new: Collection[str],
    rows: Any,
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]],
    kind: Kind,
) -> int:
    """Fit the new last layer of a classifier to encoded rows, in place.

    Args:
        model: a sequence classifier.
        new: names of its parameters that were made new.
        rows: encoded, with `labels`.
        collate: from rows to a batch.
        kind: of the labels.

    Returns:
        How many rows it was fitted to; 0 where there is no such layer.
    """
    layer = new_last_layer(model, new)
    if layer is None:
        return 0
    chosen = rows.select(range(min(len(rows), _MOST_ROWS)))
    found, truth = features(model, layer, chosen, collate)
    weight, bias = regression(found, truth, kind, layer.out_features)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return len(chosen)


def new_last_layer(model: nn.Module, new: Collection[str]) -> nn.Linear | None:
    """The last Linear layer, where it is new; else None."""
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear or f"{linear[-1][0]}.weight" not in new or linear[-1][1].bias is None:
        return None
    return linear[-1][1]


@torch.no_grad()
def features(
    model: nn.Module,
    layer: nn.Linear,
    rows: Any,
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]],
) -> tuple[Array, Array]:
    """What `layer` reads for each row, [rows, width] float64, and the rows' labels; the model is left in its mode."""
    training, device = model.training, next(model.parameters()).device
    seen: list[Tensor] = []
    truth: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    model.eval()
    try:
        for start in track(range(0, len(rows), _BATCH), "features for the classifier"):
            batch = collate([rows[index] for index in range(start, min(start + _BATCH, len(rows)))])
            truth.append(batch.pop("labels"))
            model(**{name: value.to(device) for name, value in batch.items() if name != "teacher_logits"})
    finally:
        hook.remove()
        model.train(training)
    return torch.cat(seen).double().numpy(), torch.cat(truth).numpy()


def regression(found: Array, truth: Array, kind: Kind, outputs: int) -> tuple[Array, Array]:
    """Weights [outputs, width] and biases [outputs], float32, of a regularized (logistic) regression.

    Args:
        found: features [rows, width].
        truth: [rows] class ids or scores; [rows, outputs] of 0 and 1 for several labels.
        kind: of the labels.
        outputs: classes, labels, or 1 for a score.
    """
    middle, spread = found.mean(axis=0), found.std() or 1.0
    scaled = (found - middle) / spread
    if kind == REGRESSION:
        weight, bias = _ridge(scaled, truth.reshape(-1, 1))
    elif kind == MULTI:
        pairs = [_binary(scaled, truth[:, index]) for index in range(outputs)]
        weight, bias = np.stack([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    else:
        weight, bias = _classes(scaled, truth, outputs)
    weight = weight / spread
    return weight.astype(np.float32), (bias - weight @ middle).astype(np.float32)


def _classes(scaled: Array, truth: Array, outputs: int) -> tuple[Array, Array]:
    """Of several classes; one without rows gets the bias of a class that is never chosen."""
    present = np.unique(truth)
    weight, bias = np.zeros((outputs, scaled.shape[1])), np.full(outputs, np.log(1e-4))
    if len(present) < 2:
        bias[present] = 0.0
    elif len(present) == 2:
        found, constant = _binary(scaled, (truth == present[1]).astype(np.int64))
        # Two logits whose difference is the one of the binary model.
        weight[present], bias[present] = np.stack([-found, found]) / 2, np.array([-constant, constant]) / 2
    else:
        fitted = _fitted(scaled, truth)
        weight[present], bias[present] = fitted.coef_, fitted.intercept_
    return weight, bias


def _binary(scaled: Array, truth: Array) -> tuple[Array, float]:
    if len(np.unique(truth)) < 2:
        share = float(np.clip(truth.mean(), 1e-4, 1 - 1e-4))
        return np.zeros(scaled.shape[1]), float(np.log(share / (1 - share)))
    fitted = _fitted(scaled, truth)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _ridge(scaled: Array, truth: Array) -> tuple[Array, Array]:
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=scaled.shape[1] / _STRENGTH).fit(scaled, truth)
    return np.asarray(fitted.coef_).reshape(1, -1), np.asarray(fitted.intercept_).reshape(1)


def _fitted(scaled: Array, truth: Array) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that has not converged is as good a start
        return LogisticRegression(C=_STRENGTH, max_iter=_ITERATIONS).fit(scaled, truth)
