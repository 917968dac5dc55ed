"""After a training: what the model decides by is fitted to the validation rows, and kept in its config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from resparse.console import say
from resparse.files import write_json
from sparseml.calibrate import entries
from sparseml.options.table import ArgumentError
from sparseml.processes import wait_for_all
from sparseml.session.sampling import by_length
from sparseml.session.trainer import RecipeTrainer
from sparseml.training.arguments import Arguments
from sparseml.training.prepare import Prepared


def calibrate(
    arguments: Arguments, trainer: RecipeTrainer, prepared: Prepared, rows: dict[str, Any]
) -> dict[str, Any] | None:
    """Fit what the arguments ask for, on the model as it is now: pruned, and quantized.

    All that follows goes by it: `prepared.labels` and the model's configuration change in place, and config.json.

    Returns:
        Facts for report.json; None where nothing is asked for.
    """
    task = prepared.task
    if not task.calibrates(arguments.data):
        return None
    if "validation" not in rows:
        raise ArgumentError(
            "--calibration needs validation rows, and the data have none: give --validation_ratio."
        )
    sorted_rows, _ = by_length(rows["validation"])
    trainer.compute_metrics = None
    result = trainer.predict(sorted_rows, metric_key_prefix="calibration")
    outputs = result.predictions if isinstance(result.predictions, tuple) else (result.predictions,)
    fitted = task.calibrate(outputs, np.asarray(result.label_ids), prepared.labels, arguments.data)
    for note in fitted.notes:
        say(note)
    prepared.labels = fitted.labels
    _keep(trainer, entries(fitted.labels))
    return fitted.facts or None


def _keep(trainer: RecipeTrainer, values: dict[str, Any]) -> None:
    """Put entries into the model's configuration, and into the config.json of its folder."""
    for name, value in values.items():
        if value is not None or hasattr(trainer.model.config, name):
            setattr(trainer.model.config, name, value)
    path = Path(trainer.args.output_dir) / "config.json"
    if trainer.args.should_save:
        config = json.loads(path.read_text(encoding="utf-8"))
        config = {key: value for key, value in config.items() if key not in values}
        write_json(path, config | {key: value for key, value in values.items() if value is not None})
    wait_for_all()
