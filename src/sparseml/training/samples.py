"""Rows as the model takes them, and its outputs, for trying an export elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from resparse.files import whole_file
from sparseml.session.trainer import RecipeTrainer
from sparseml.tasks.base import Task


def write_samples(trainer: RecipeTrainer, task: Task, rows: Any, count: int) -> None:
    """Write the first rows as the model takes them and its outputs: NumPy files of one row each."""
    folder = Path(trainer.args.output_dir)
    trainer.model.eval()
    for index in range(min(count, len(rows))):
        batch = trainer.data_collator([rows[index]])
        batch.pop("labels", None)
        with torch.no_grad():
            found = trainer.model(**{key: value.to(trainer.args.device) for key, value in batch.items()})
        inputs = {key: value.cpu().numpy() for key, value in batch.items()}
        outputs = {name: found[name].cpu().numpy() for name in task.output_names}
        for kind, stem, arrays in (("sample-inputs", "inp", inputs), ("sample-outputs", "out", outputs)):
            path = folder / kind / f"{stem}-{index:04d}.npz"
            with whole_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)
