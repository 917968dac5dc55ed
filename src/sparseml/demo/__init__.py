"""The small labelled dataset that ships with the package; DATASET.md beside this file is its data card."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent

LABELS = ("account", "billing", "delivery", "praise", "returns", "technical")
"""The class names, in the order (sorted) in which a trained model numbers them."""


def files() -> dict[str, Path]:
    """Return the CSV file (columns `text` and `label`) of each split: `train`, `validation` and `test`."""
    return {split: _FOLDER / f"support_{split}.csv" for split in ("train", "validation", "test")}
