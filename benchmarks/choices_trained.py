"""The trainings of `choices.py`, by our commands: MiniLM dense, dense in int8, and from either pruned start."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accuracy_recipes import recipe_of, variables_of
from accuracy_runs import trained_model
from data import DataSet, Rows
from process import DENSE_MODEL, SPARSE_MODEL, flags
from resparse.files import write_text
from resumable import resumable_training
from sparseml.transformers import export

MOST_TOKENS = 128
_BATCH = 32
_CALIBRATION_BATCHES = 16  # about as many rows as NNCF looks at
_CHECKED_ROWS = 64  # by an export; the whole test split is labelled afterwards
_PRUNED_90 = SPARSE_MODEL.replace("pruned80", "pruned90")


@dataclass(frozen=True)
class Training:
    """A training, or a calibration, of ours.

    Attributes:
        start: what it begins at: a stub, or the name of another training.
        recipe: see `accuracy_recipes.recipe_of`.
        epochs, rate: of it; none where it only calibrates.
        teacher: the training that teaches it.
    """

    start: str
    recipe: str
    epochs: int = 0
    rate: float = 0.0
    teacher: str | None = None

    @property
    def needs(self) -> list[str]:
        """The trainings whose models it reads."""
        return [name for name in (self.start, self.teacher) if name in TRAININGS]


TRAININGS = {
    "dense": Training(DENSE_MODEL, "dense", 4, 1e-4),
    "dense-int8": Training("dense", "calibrate"),
    "pruned80": Training(SPARSE_MODEL, "transfer", 8, 2e-4, teacher="dense"),
    "pruned90": Training(_PRUNED_90, "transfer", 8, 2e-4, teacher="dense"),
}
"""Trainings by name. Settings suit most data sets of the accuracy benchmark; they are not tuned by data set."""

KEPT = ("dense", "pruned80", "pruned90")
"""Those that the accuracy benchmark has too, under the same names."""


@dataclass(frozen=True)
class Place:
    """Where everything of one data set lies.

    Attributes:
        folder: of the data set within the work folder.
        dataset: whose classes are one a row.
        most_rows: to train on; all by default.
        seed: of every training.
        bf16: train in bfloat16, for processors that have it.
        kept: the folder of `accuracy.py --keep`, whose models stand for trainings on all rows.
    """

    folder: Path
    dataset: DataSet
    most_rows: int | None = None
    seed: int = 0
    bf16: bool = False
    kept: Path | None = None
    rows: dict[str, Rows] = field(default_factory=dict)

    def file(self, split: str) -> Path:
        """The rows of a split as JSON Lines."""
        return self.folder / "rows" / f"{split}.jsonl"

    def write_rows(self) -> None:
        """Write the splits with the text columns and `label`, a class's name; the same rows for every contestant.

        Only training rows are drawn from: all are tested on the whole test split.
        """
        columns = self.dataset.columns
        for split, all_rows in self.dataset.splits().items():
            rows = all_rows
            if split == "train" and self.most_rows is not None and self.most_rows < len(rows):
                rows = random.Random(0).sample(rows, self.most_rows)
            self.rows[split] = [
                {**{column: row[column] for column in columns}, "label": class_name(self.dataset, row)}
                for row in rows
            ]
            write_text(self.file(split), "".join(json.dumps(row) + "\n" for row in self.rows[split]))

    def trained(self, name: str) -> Path:
        """The folder of a training; its model is in `model`."""
        return self.folder / "trained" / name

    def model(self, name: str) -> Path:
        """The model of a training."""
        return self.trained(name) / "model"


def class_name(dataset: DataSet, row: dict[str, Any]) -> str:
    """The class of a row, by name where it has one."""
    return str(row.get(f"{dataset.label}_name", row[dataset.label]))


def train(place: Place, name: str) -> float:
    """Train what is asked for and what it needs, unless that has been done.

    Returns:
        The processor's seconds of all of it; NaN where the model is a kept one.
    """
    if place.kept is not None and name in KEPT:
        if not place.model(name).is_dir():
            kept = trained_model(place.kept, place.dataset.name, name, place.seed)
            shutil.copytree(kept, place.model(name))
        return math.nan
    earlier = sum(train(place, other) for other in TRAININGS[name].needs)
    title = f"{place.dataset.name}: {name}"
    return earlier + resumable_training(title, command(place, name), place.trained(name)).cpu_seconds


def command(place: Place, name: str) -> list[str]:
    """The flags of a training, without --output_dir."""
    training = TRAININGS[name]
    start, teacher = (
        str(place.model(other)) if other in TRAININGS else other
        for other in (training.start, training.teacher)
    )
    arguments: dict[str, Any] = {
        "model_name_or_path": start,
        "recipe": recipe_of(training.recipe, place.folder, calibration_batches=_CALIBRATION_BATCHES),
        "distill_teacher": teacher or "disable",
        **{f"{split}_file": place.file(split) for split in ("train", "validation", "test")},
        "input_column_names": ",".join(place.dataset.columns),
        "label_column_name": "label",
        "max_seq_length": MOST_TOKENS,
        "per_device_train_batch_size": _BATCH,
        "per_device_eval_batch_size": 128,
        "save_strategy": "no",
        "disable_tqdm": "true",
        "seed": place.seed,
    }
    if training.epochs:
        variables = variables_of(training.recipe, training.epochs, training.rate)
        arguments["recipe_args"] = json.dumps(variables)
    precision = ("--bf16",) if place.bf16 and training.epochs else ()
    does = ("--do_train",) if training.epochs else ("--one_shot",)
    return [*flags(arguments), *precision, *does]


def exported(place: Place, name: str, runtime: str | None = None) -> Path:
    """The deployment of a training, made now unless it is there; `runtime` is another one than ours."""
    folder = place.trained(name) / ("deployment" if runtime is None else f"deployment-{runtime}")
    if not (folder / "model.onnx").is_file():
        words = [str(place.model(name)), "--task", "text_classification"]
        words += ["--deployment_directory_name", folder.name]
        checked = place.folder / "rows" / "checked.jsonl"
        write_text(
            checked, "".join(json.dumps(row) + "\n" for row in place.rows["validation"][:_CHECKED_ROWS])
        )
        words += ["--data_args", f"validation_file={checked}"]
        export.main([*words, *(("--runtime", runtime) if runtime else ())])
    return folder
