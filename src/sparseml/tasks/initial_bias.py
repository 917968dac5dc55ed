"""What a new classifier's bias begins with: the shares of the labels."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import nn

from resparse.arrays import Array
from sparseml.data.label_encoding import MULTI, REGRESSION, Kind

# The initial probability of a label that no training row has.
_RAREST = 1e-4


def prior_logits(truth: Array, kind: Kind, num_labels: int) -> Array:
    """The logits [num_labels] of the labels' shares, which fit best before anything is known of a text.

    Args:
        truth: [rows] class ids or scores; [rows, num_labels] of 0 and 1 for several labels.
    """
    if kind == REGRESSION:
        return np.asarray([float(np.mean(truth))])
    if kind == MULTI:
        share = np.clip(np.mean(truth, axis=0), _RAREST, 1 - _RAREST)
        logits: Array = np.log(share / (1 - share))
        return logits
    counts = np.bincount(np.asarray(truth, dtype=np.int64), minlength=num_labels)
    logits = np.log(np.maximum(counts / counts.sum(), _RAREST))
    return logits - logits.mean()


def set_bias(model: nn.Module, new: Collection[str], logits: Array) -> bool:
    """Set the bias of the classifier's last layer, in place.

    Rare labels otherwise begin at a probability of one half, and all that a short training learns is that they are
    rare (Lin et al. 2017, Focal Loss for Dense Object Detection, section 3.3).

    Args:
        model: a sequence classifier.
        new: names of its parameters that were made new.
        logits: the first output, [num_labels].

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
