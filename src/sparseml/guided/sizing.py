"""Training epochs and learning rate for data of a size: values for the bundled recipe's variables.

Measured on nine data sets (docs/transfer.md): 1,000 to 2,500 steps of 32 rows at 2e-4, more of them for small data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RECIPE = "zoo:nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"
"""The recipe for any text classification."""

_STEPS, _STEPS_PER_CLASS = 1500, 25
_MIN_EPOCHS, _USUAL_MAX_EPOCHS, _MAX_EPOCHS = 3, 15, 30
_MIN_STEPS = 300
_RATE, _RATE_BATCH, _RATE_WIDTH = 2e-4, 32, 384
_QUANTIZATION_START, _OBSERVER_END = 0.7, 0.9
# Of an encoder and a classifier that few rows have taught already.
_SETTLING_STEPS, _SETTLING_RATE = 60, 1e-6


@dataclass(frozen=True)
class Sizing:
    """A training that fits the data: rows in a batch, approximate number of steps, and the recipe's variables."""

    batch: int
    steps: int
    variables: dict[str, Any]


def batch_for(rows: int) -> int:
    """The batch size: small for few rows, so that an epoch has enough steps."""
    return 32 if rows >= 2000 else 16 if rows >= 500 else 8


def fit(
    rows: int,
    classes: int,
    *,
    width: int = _RATE_WIDTH,
    batch: int | None = None,
    epochs: float | None = None,
    rate: float | None = None,
    taught: bool = False,
) -> Sizing:
    """Choose epochs, learning rate and the start of quantization, unless given; `classes` is 1 for a score.

    A pruned encoder needs a number of steps rather than of epochs: about 1,500, and 25 more for each class. But at
    least 3 epochs, and at most 15, after which small data are overfitted (1,000 questions of TREC without a teacher by
    the 8th); where these are fewer than 300 steps, up to 30. The learning rate is proportional to the square root of
    the batch size and inverse to the model's hidden size (1e-4 for BERT base's 768, at batches of 32). Quantization
    starts after 70 % of the epochs; its ranges are frozen for the last 10 %.

    `taught`: contrastive steps have taught the encoder, and the classifier is fitted to it. Training on then forgets
    more than it learns (docs/few_rows.md): about 60 steps at a rate of almost nothing settle the ranges of int8.
    """
    size = batch or batch_for(rows)
    steps_per_epoch = max(1, -(-rows // size))
    if epochs is None and taught:
        epochs = min(_MAX_EPOCHS, -(-_SETTLING_STEPS // steps_per_epoch))
    if epochs is None:
        wanted = round((_STEPS + _STEPS_PER_CLASS * classes) / steps_per_epoch)
        usual = min(max(wanted, _MIN_EPOCHS), _USUAL_MAX_EPOCHS)
        epochs = max(usual, min(_MAX_EPOCHS, -(-_MIN_STEPS // steps_per_epoch)))
    scaled = _SETTLING_RATE if taught else _RATE * (size / _RATE_BATCH) ** 0.5 * _RATE_WIDTH / width
    return Sizing(
        batch=size,
        steps=round(epochs * steps_per_epoch),
        variables={
            "num_epochs": epochs,
            "init_lr": rate if rate is not None else float(f"{scaled:.2g}"),
            "qat_start_epoch": round(_QUANTIZATION_START * epochs, 2),
            "observer_epoch": round(_OBSERVER_END * epochs, 2),
        },
    )
