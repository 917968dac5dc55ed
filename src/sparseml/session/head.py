"""Where a new classifier begins: at what is true on average, so that its first steps are about the texts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import nn

from sparseml.data.label_encoding import MULTI, REGRESSION, Kind

# A label that no row has begins as if one row in this many had it.
_RAREST = 1e4


def average_answer(truth: np.ndarray, kind: Kind, num_labels: int) -> np.ndarray:
    """The logits (num_labels,) that fit best where nothing is known of the texts.

    Args:
        truth: (rows,) class ids or scores; (rows, num_labels) of 0 and 1 for several labels.
    """
    if kind == REGRESSION:
        return np.asarray([float(np.mean(truth))])
    if kind == MULTI:
        share = np.clip(np.mean(truth, axis=0), 1 / _RAREST, 1 - 1 / _RAREST)
        return np.log(share / (1 - share))
    counts = np.bincount(np.asarray(truth, dtype=np.int64), minlength=num_labels)
    logits = np.log(np.maximum(counts / counts.sum(), 1 / _RAREST))
    return logits - logits.mean()


def begin_at(model: nn.Module, new: Collection[str], logits: np.ndarray) -> bool:
    """Set the bias of the classifier's last layer, in place.

    Rare labels otherwise begin at a probability of one half, and all that a short training learns is that they are
    rare (Lin et al. 2017, Focal Loss for Dense Object Detection, section 3.3).

    Args:
        model: a sequence classifier.
        new: names of its parameters that were made new.
        logits: what it is to answer at first, (num_labels,).

    Returns:
        Whether there was such a layer among the new ones.
    """
    last: Any = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and f"{name}.bias" in new and module.out_features == len(logits):
            last = module
    if last is None:
        return False
    with torch.no_grad():
        last.bias.copy_(torch.as_tensor(logits, dtype=last.bias.dtype))
    return True
