"""The data arguments of text classification alone: long texts, rare classes, how sure the classifier has to be."""

from __future__ import annotations

from dataclasses import dataclass

from resparse.long_texts import MOST_WINDOWS, POOLINGS, READS
from sparseml.options.groups import DataTrainingArguments, argument


@dataclass
class ClassificationArguments(DataTrainingArguments):
    """Weights of classes, calibration, and when to give no label."""

    long_texts: str | None = argument(
        None,
        "What is read of texts longer than --max_seq_length: first (their beginning, the default) or windows (all of "
        "them, in windows of that length), here and when deployed.",
        choices=READS,
    )
    window_stride: int | None = argument(
        None, "Tokens that neighbouring windows have in common; 0 by default."
    )
    window_pooling: str | None = argument(
        None,
        "A text's logits are the mean (the default) or the max of its windows'.",
        choices=POOLINGS,
    )
    max_windows: int | None = argument(
        None, f"Windows of one text, at most; what is behind them is not read. {MOST_WINDOWS} by default."
    )
    class_weights: str | None = argument(
        None,
        "Weights of the classes in the loss: balanced (by their rows), a JSON file of names and weights, or none.",
    )
    focal_gamma: float = argument(
        0.0, "Above 0: focal loss, in which rows count the less the surer they are right; 2 is usual."
    )
    calibration: str | None = argument(
        None,
        "temperature: fit the probabilities to the validation rows, here and when deployed; or none.",
        choices=("temperature", "none"),
    )
    min_score: float | None = argument(
        None, "Give a text no label where the best has a lower probability, here and when deployed."
    )
    out_of_scope_label: str | None = argument(
        None, "The label of texts below --min_score: another name, or a class that is trained."
    )
