"""The data sets of the benchmarks: where they lie, what their columns are, and CSV files made from them.

They are read from the folder that `RESPARSE_DATA` names (default: ../shared/data beside the checkout), one
folder per data set with `train.jsonl`, `validation.jsonl` (not all have one) and `test.jsonl`, one JSON
object a line. `python benchmarks/data.py OUT` writes the same rows as CSV, as the tutorial does.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resparse.console import run, say
from resparse.errors import UserError
from resparse.files import write_text

SPLITS = ("train", "validation", "test")


class MissingDataError(UserError):
    """The data folder, or a file in it, is not there."""


@dataclass(frozen=True)
class DataSet:
    """One classification data set.

    Attributes:
        name: its folder.
        columns: the one or two text columns.
        label: the column of class indices.
    """

    name: str
    columns: tuple[str, ...]
    label: str = "label"

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

    def rows(self, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in the order of the file."""
        with self.file(split).open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def write_csv(self, split: str, folder: Path) -> Path:
        """Write the text and label columns of a split to `folder`/<name>-<split>.csv, whole."""
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, [*self.columns, self.label], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows(split))
        path = folder / f"{self.name}-{split}.csv"
        write_text(path, buffer.getvalue())
        return path


DATASETS = {
    dataset.name: dataset
    for dataset in (
        DataSet("tweeteval_emotion", ("text",)),
        DataSet("sick", ("sentence_A", "sentence_B")),
        DataSet("trec", ("text",)),
    )
}


def data_folder() -> Path:
    """The folder of all data sets: `RESPARSE_DATA`, else ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RESPARSE_DATA", default))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the benchmark data sets as CSV files.")
    parser.add_argument("folder", type=Path, help="where <data set>-<split>.csv files go")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    arguments = parser.parse_args()
    for name in arguments.datasets:
        for split in filter(DATASETS[name].has, SPLITS):
            say(str(DATASETS[name].write_csv(split, arguments.folder)))


if __name__ == "__main__":
    raise SystemExit(run(main))
