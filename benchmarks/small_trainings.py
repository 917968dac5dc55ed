"""Small trainings on real rows, made once and found again: the embedded start, pruned and in int8, in minutes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import DATASETS, Rows
from process import SPARSE_MODEL
from resparse.files import write_text
from resumable import resumable_training

CALIBRATED = ("--calibration", "temperature")
"""What all of them say, so that programs share trainings: it changes nothing but probabilities."""

RECIPE = "zoo:nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"


@dataclass(frozen=True)
class Small:
    """Rows of a data set, few enough for minutes on a processor.

    Attributes:
        dataset: its name.
        most: rows at most, by split; drawn at random, the same ones every time.
        epochs: of the training.
        changed: what becomes of the rows of a split, given its name; by default they stay.
    """

    dataset: str
    most: dict[str, int]
    epochs: int
    changed: Callable[[str, Rows], Rows] = lambda split, rows: rows

    def write(self, folder: Path) -> dict[str, Path]:
        """The splits as JSON Lines, with the columns `text` and `label`, in which classes are names."""
        dataset, files = DATASETS[self.dataset], {}
        for split, rows in dataset.splits().items():
            kept = self.changed(split, _drawn(rows, self.most.get(split)))
            files[split] = folder / f"{split}.jsonl"
            lines = [json.dumps({"text": row["text"], "label": _label(row)}) for row in kept]
            write_text(files[split], "\n".join(lines) + "\n")
        return files


EMOTION = Small("tweeteval_emotion", {"train": 800}, epochs=5)


def _drawn(rows: Rows, most: int | None) -> Rows:
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    return shuffled[:most]


def _label(row: dict[str, Any]) -> Any:
    return next(row[name] for name in ("label_names", "label_name", "labels", "label") if name in row)


def trained(
    small: Small, folder: Path, name: str, flags: Sequence[str], seed: int, epochs: int | None
) -> Path:
    """The folder of a training that has finished, now or before; tested on the test rows."""
    files = small.write(folder / "rows")
    rounds = epochs or small.epochs
    variables = {
        "num_epochs": rounds,
        "init_lr": 1.5e-4,
        "qat_start_epoch": round(0.7 * rounds, 2),
        "observer_epoch": round(0.9 * rounds, 2),
    }
    command = [
        *("--model_name_or_path", SPARSE_MODEL, "--recipe", RECIPE, "--recipe_args", json.dumps(variables)),
        *(word for split, path in files.items() for word in (f"--{split}_file", str(path.resolve()))),
        *("--do_train", "--do_eval", "--do_predict", "--distill_teacher", "disable"),
        *("--max_seq_length", "96", "--per_device_train_batch_size", "16", "--save_strategy", "no"),
        *("--seed", str(seed), "--disable_tqdm", "true", *CALIBRATED, *flags),
    ]
    place = (folder / f"{name}-{seed}").resolve()
    resumable_training(f"{small.dataset}, {name}, seed {seed}", command, place)
    return place / "model"
