"""The data arguments of text classification alone: rare classes, and how sure the classifier has to be."""

from __future__ import annotations

from dataclasses import dataclass

from sparseml.options.groups import DataTrainingArguments, argument


@dataclass
class ClassificationArguments(DataTrainingArguments):
    """Weights of classes, calibration, and when to give no label."""

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
