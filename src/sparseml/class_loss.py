"""The loss of a classifier with weights of classes, or with less of the rows that it has right already (focal loss)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resparse.arrays import Array
from sparseml.data.label_encoding import MULTI, Kind

# Below this distance from 1 a probability counts as certain: (1 - p)^gamma has no finite slope at 1 for gamma < 1.
_CERTAIN = 1e-7


def class_loss(logits: Tensor, truth: Tensor, kind: Kind, weights: Tensor | None, gamma: float) -> Tensor:
    """The mean over rows of w (1 - p)^gamma (-log p), where p is the probability of what is true.

    Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002, equation 5. With gamma 0 and no weights it
    is the usual cross entropy. It is divided by the number of rows, not by their weights as PyTorch's is: so a batch's
    gradient is an unbiased estimate of that of all rows, even where a batch holds one class alone.

    Args:
        logits: [rows, labels].
        truth: [rows] class ids; [rows, labels] of 0 and 1 for several labels.
        weights: [labels]; for several labels, of the rows that have the label.
        gamma: 0 or more.
    """
    logits = logits.float()
    if kind == MULTI:
        truth = truth.to(logits.dtype)
        yes = truth * _focused(F.logsigmoid(logits), gamma)
        no = (1 - truth) * _focused(F.logsigmoid(-logits), gamma)
        return ((yes if weights is None else weights * yes) + no).mean()
    chances = F.log_softmax(logits, dim=-1).gather(1, truth[:, None])[:, 0]
    losses = _focused(chances, gamma)
    return (losses if weights is None else weights[truth] * losses).mean()


def _focused(log_probability: Tensor, gamma: float) -> Tensor:
    if gamma == 0:
        return -log_probability
    missing = (-torch.expm1(log_probability)).clamp_min(_CERTAIN)
    return -log_probability * missing**gamma


class ClassLoss:
    """`class_loss` of a model's outputs, as the trainer calls it.

    Args:
        weights: [labels], or None.
    """

    def __init__(self, kind: Kind, weights: Array | None, gamma: float) -> None:
        self._kind, self._gamma = kind, gamma
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def __call__(self, outputs: Mapping[str, Any], labels: Tensor) -> Tensor:
        logits = outputs["logits"]
        if self._weights is not None:
            self._weights = self._weights.to(logits.device)
        return class_loss(logits, labels, self._kind, self._weights, self._gamma)
