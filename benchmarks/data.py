"""The data sets that benchmarks use: the columns of each, its splits, and its rows.

They are read from the folder that `RESPARSE_DATA` names (default: ../shared/data beside the checkout), one
folder per data set with `train.jsonl`, `validation.jsonl` (not all have one) and `test.jsonl`, one JSON
object a line. `python benchmarks/data.py OUT` writes the same rows as CSV, as the tutorial does; with `--splits` as
JSON Lines, in the splits that accuracy is measured on (see `DataSet.splits`).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resparse.console import run, say
from resparse.errors import UserError
from resparse.files import write_text

SPLITS = ("train", "validation", "test")

Rows = list[dict[str, Any]]

_HELD_OUT, _MOST_HELD_OUT = 0.1, 2000


class MissingDataError(UserError):
    """The data folder, or a file in it, is not there."""


@dataclass(frozen=True)
class DataSet:
    """One classification data set.

    Attributes:
        name: its folder.
        columns: the one or two text columns.
        label: the column of class indices, of lists of them, or of scores.
        metrics: of the training command, whose mean is the data set's score.
        most_train_rows: `splits` draws no more than these to train on; None: all.
    """

    name: str
    columns: tuple[str, ...]
    label: str = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    most_train_rows: int | None = None

    def file(self, split: str) -> Path:
        """The JSON Lines file of a split.

        Raises:
            MissingDataError: it is not there.
        """
        path = data_folder() / self.name / f"{split}.jsonl"
        if not path.is_file():
            raise MissingDataError(
                f"No {split} split of {self.name}: {path} does not exist. "
                "Set RESPARSE_DATA to the folder that holds the data sets."
            )
        return path

    def has(self, split: str) -> bool:
        """Whether the data set comes with this split."""
        return (data_folder() / self.name / f"{split}.jsonl").is_file()

    def rows(self, split: str) -> Rows:
        """All rows of a split, in the order of the file."""
        with self.file(split).open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def splits(self) -> dict[str, Rows]:
        """Rows to train on, to choose settings by, and to test on, the same ones every time.

        A data set without test rows is tested on its validation rows. Where none are left to choose settings by,
        a tenth of the training rows (at most 2,000) is drawn from them.
        """
        draw = random.Random(0)
        train, test = self.rows("train"), self.rows("test" if self.has("test") else "validation")
        if self.has("test") and self.has("validation"):
            validation = self.rows("validation")
        else:
            draw.shuffle(train)
            count = min(round(_HELD_OUT * len(train)), _MOST_HELD_OUT)
            train, validation = train[count:], train[:count]
        if self.most_train_rows is not None and len(train) > self.most_train_rows:
            train = draw.sample(train, self.most_train_rows)
        return {"train": train, "validation": validation, "test": test}

    def write_splits(self, folder: Path) -> dict[str, int]:
        """Write `splits` to `folder`/NAME/SPLIT.jsonl, without columns that nobody reads; returns their sizes."""
        splits = self.splits()
        kept = (*self.columns, self.label, f"{self.label}_name", "label_names")
        for split, rows in splits.items():
            lines = [
                json.dumps({key: row[key] for key in kept if key in row}, ensure_ascii=False) for row in rows
            ]
            write_text(folder / self.name / f"{split}.jsonl", "\n".join(lines) + "\n")
        return {split: len(rows) for split, rows in splits.items()}

    def write_csv(self, split: str, folder: Path) -> Path:
        """Write the text and label columns of a split to `folder`/<name>-<split>.csv, whole."""
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, [*self.columns, self.label], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows(split))
        path = folder / f"{self.name}-{split}.csv"
        write_text(path, buffer.getvalue())
        return path


_SENTENCES = ("sentence1", "sentence2")

DATASETS = {
    dataset.name: dataset
    for dataset in (
        DataSet("tweeteval_emotion", ("text",)),
        DataSet("sick", ("sentence_A", "sentence_B")),
        DataSet("trec", ("text",)),
        DataSet("glue_mrpc", _SENTENCES),
        DataSet("glue_rte", _SENTENCES),
        DataSet("glue_cola", ("text",)),
        DataSet("glue_stsb", _SENTENCES, metrics=("pearson", "spearmanr")),
        DataSet("go_emotions", ("text",), "labels", metrics=("f1_micro",), most_train_rows=12_000),
        DataSet("snli_subset", _SENTENCES, most_train_rows=20_000),
    )
}

TUTORIAL_SETS = ("tweeteval_emotion", "sick")
"""Those that the tutorial trains on, a sentence and a pair a row."""


def data_folder() -> Path:
    """The folder of all data sets: `RESPARSE_DATA`, else ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RESPARSE_DATA", default))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the benchmark data sets as files.")
    parser.add_argument("folder", type=Path, help="where <data set>-<split>.csv files go")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument(
        "--splits", action="store_true", help="the splits of accuracy.py, as <data set>/<split>.jsonl"
    )
    arguments = parser.parse_args()
    for dataset in map(DATASETS.__getitem__, arguments.datasets):
        if arguments.splits:
            say(f"{arguments.folder / dataset.name}: {dataset.write_splits(arguments.folder)}")
            continue
        for split in filter(dataset.has, SPLITS):
            say(str(dataset.write_csv(split, arguments.folder)))


if __name__ == "__main__":
    raise SystemExit(run(main))
