"""What contrastive steps teach a start of few rows: the classifier that begins at logistic regression, by their number.

    python benchmarks/few_rows_contrast.py WORK --sizes 8 32 --draws 3

The evidence for how many steps a guided run of few rows takes (`sparseml/training/classifier_start.py`). Each cell is
the embedded start with 80 % zeros, trained by `sparseml.session.contrast` on so many rows a class; then a classifier is
fitted to its features, and labels the test rows. Nothing is trained after that, as a run would. WORK keeps an outcome a
cell: the same command again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from data import DATASETS, DataSet
from few_rows import SIZES, draw
from process import SPARSE_MODEL
from record import keep, table
from resparse.console import run, say
from resparse.files import write_json
from sparseml.data.label_encoding import SINGLE
from sparseml.session.contrast import contrast
from sparseml.session.head_start import begin_at_regression, features, new_last_layer
from sparseml.session.models import load_config, load_model, load_tokenizer, resolve
from sparseml.session.pooling import MEAN, pass_through, set_pooling

DATA = ("trec", "tweeteval_emotion")
STEPS = (0, 20, 40, 80, 160)
LENGTH = 128


def encoded(tokenizer: Any, dataset: DataSet, path: Path, names: Sequence[Any]) -> Dataset:
    """Rows of a file of `few_rows.draw` as the model takes them, with class ids."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [[row[column] for row in rows] for column in dataset.columns]
    columns = tokenizer(*texts, truncation=True, max_length=LENGTH)
    return Dataset.from_dict({**columns, "labels": [names.index(row[dataset.label]) for row in rows]})


def measured(dataset: DataSet, size: int, seed: int, steps: int, work: Path) -> dict[str, float]:
    """Accuracy on the test rows, and seconds of the steps."""
    train_path, test_path = draw(dataset, size, seed, work)
    names = sorted({row[dataset.label] for row in dataset.splits()["train"]})
    source = resolve(SPARSE_MODEL)
    tokenizer = load_tokenizer(source)
    torch.manual_seed(seed)
    loaded = load_model(
        source, AutoModelForSequenceClassification, load_config(source, num_labels=len(names))
    )
    model = loaded.model
    set_pooling(model, MEAN)
    pass_through(model)
    layer, collate = new_last_layer(model, loaded.new), DataCollatorWithPadding(tokenizer)
    assert layer is not None
    train, test = (encoded(tokenizer, dataset, path, names) for path in (train_path, test_path))
    began = time.perf_counter()
    if steps:
        contrast(model, layer, train, collate, steps, seed)
    seconds = time.perf_counter() - began
    begin_at_regression(model, loaded.new, train, collate, SINGLE)
    read, truth = features(model, layer, test, collate)
    with torch.no_grad():
        found = layer(torch.from_numpy(read).float()).argmax(dim=1)
    return {"accuracy": float((found.numpy() == truth).mean()), "seconds": seconds}


def outcome(name: str, size: int, steps: int, draws: int, work: Path) -> dict[str, Any]:
    """A cell of the table: means over the draws, of which WORK holds some."""
    found = []
    for seed in range(draws):
        folder = work / name / str(size) / str(seed)
        path = folder / f"{steps}.json"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, measured(DATASETS[name], size, seed, steps, folder))
        found.append(json.loads(path.read_text()))
    means = {key: statistics.mean(each[key] for each in found) for key in found[0]}
    spread = statistics.pstdev(each["accuracy"] for each in found)
    say(f"{name}, {size} rows a class, {steps} steps: {means['accuracy']:.1%}")
    return {"data": name, "size": size, "steps": steps, "spread": spread, **means}


def main() -> None:
    parser = argparse.ArgumentParser(description="Contrastive steps on few rows.")
    parser.add_argument("work", type=Path, help="for the outcomes")
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="rows a class")
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS)
    parser.add_argument("--draws", type=int, default=3)
    asked = parser.parse_args()
    cells = itertools.product(asked.data, asked.sizes, asked.steps)
    outcomes = [outcome(*cell, asked.draws, asked.work) for cell in cells]
    rows = [
        (
            found["data"],
            str(found["size"]),
            str(found["steps"]),
            f"{100 * found['accuracy']:.1f}",
            f"{100 * found['spread']:.1f}",
            f"{found['seconds']:.0f}",
        )
        for found in outcomes
    ]
    header = ("data", "rows a class", "steps", "accuracy, %", "spread", "s")
    said = f"Means of {asked.draws} draws of the rows, and their standard deviation; 500 test rows."
    keep(
        "few_rows_contrast",
        "Contrastive steps on few rows",
        [said, table(header, rows)],
        {"outcomes": outcomes},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
