"""How long and how fast to train on data of a size: values for the bundled recipe's variables.

The recipe itself is `zoo:.../minilm-l6/pytorch/huggingface/default/pruned80_quant-none`; this says its variables. It
was tuned on some 3,000 rows of four classes (10 epochs of 100 steps at 3e-4), and that is what comes out here for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RECIPE = "zoo:nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"
"""The recipe for any text classification."""

_STEPS = 900
_STEPS_A_CLASS = 25
_FEWEST_EPOCHS, _USUAL_MOST_EPOCHS, _MOST_EPOCHS = 3, 15, 30
_FEWEST_STEPS = 300
_RATE, _RATE_BATCH, _RATE_WIDTH = 3e-4, 32, 384
_QUANTIZED_FROM, _RANGES_HELD_FROM = 0.7, 0.9


@dataclass(frozen=True)
class Sizing:
    """A training that fits the data.

    Attributes:
        batch: rows in a step.
        steps: of the whole training, about.
        variables: of the recipe.
    """

    batch: int
    steps: int
    variables: dict[str, Any]


def batch_for(rows: int) -> int:
    """Rows in a step: few of few, so that an epoch has steps enough."""
    return 32 if rows >= 2000 else 16 if rows >= 500 else 8


def fit(
    rows: int,
    classes: int,
    *,
    width: int = _RATE_WIDTH,
    batch: int | None = None,
    epochs: float | None = None,
    rate: float | None = None,
) -> Sizing:
    """Choose epochs, learning rate and the start of quantization.

    A pruned encoder needs steps rather than epochs: about 900 and 25 more for each class. But no fewer than 3 epochs,
    and no more than 15, by which small data are known by heart (1,000 questions of TREC by the 8th); only where these
    are fewer than 300 steps, up to 30. The learning rate goes with the square root of the batch, and falls with the
    model's width (1.5e-4 for BERT base's 768, at batches of 32). Quantization begins after 70 % of the epochs; its
    ranges stand still for the last 10 %.

    Args:
        rows: to train on.
        classes: to tell apart; 1 for a score.
        width: of the model's hidden states.
        batch: rows in a step, where the user said it; likewise epochs and rate.
    """
    size = batch or batch_for(rows)
    a_epoch = max(1, -(-rows // size))
    length = epochs if epochs is not None else _epochs(a_epoch, classes)
    scaled = _RATE * (size / _RATE_BATCH) ** 0.5 * _RATE_WIDTH / width
    return Sizing(
        batch=size,
        steps=round(length * a_epoch),
        variables={
            "num_epochs": length,
            "init_lr": rate if rate is not None else float(f"{scaled:.2g}"),
            "qat_start_epoch": round(_QUANTIZED_FROM * length, 2),
            "observer_epoch": round(_RANGES_HELD_FROM * length, 2),
        },
    )


def _epochs(a_epoch: int, classes: int) -> int:
    """How many epochs of so many steps."""
    wanted = round((_STEPS + _STEPS_A_CLASS * classes) / a_epoch)
    usual = min(max(wanted, _FEWEST_EPOCHS), _USUAL_MOST_EPOCHS)
    return max(usual, min(_MOST_EPOCHS, -(-_FEWEST_STEPS // a_epoch)))
