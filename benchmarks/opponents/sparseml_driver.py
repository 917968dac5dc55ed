"""Run SparseML 1.8's text-classification command where there is no network.

This file runs in the opponent's environment, never in ours (benchmarks/README.md says how to make it):

    OPPONENT/bin/python benchmarks/opponents/sparseml_driver.py --model_name_or_path ... --recipe ...

All arguments are those of `sparseml.transformers.text_classification`. Only two things differ from the
plain command: SparseML's usage reports are switched off, and the accuracy metric, whose code SparseML
fetches from the network at every start, is a local function. Training is SparseML's own, untouched.
"""

from __future__ import annotations

import os

os.environ.update(
    NM_DISABLE_ANALYTICS="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1"
)

import datasets
import numpy as np


class Accuracy:
    """The one metric that a run on a user's own files asks for."""

    def compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Share of class indices [N] that agree."""
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}


def local_metric(path: str, *_: object, **__: object) -> Accuracy:
    """What `datasets.load_metric("accuracy")` would have fetched."""
    if path != "accuracy":
        raise SystemExit(f"sparseml_driver: only the metric 'accuracy' is had offline, not {path!r}")
    return Accuracy()


if __name__ == "__main__":
    # text_classification.py imports the name itself, so it must be replaced before that import.
    datasets.load_metric = local_metric

    from sparseml.transformers.text_classification import main

    main()
