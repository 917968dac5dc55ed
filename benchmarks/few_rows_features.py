"""What a frozen start's features tell of a few rows: first token, its pooler or the mean of all.

    python benchmarks/few_rows_features.py WORK

The evidence for what a guided run of few rows begins with (`sparseml/training/classifier_start.py`): no step of
training, logistic regression at three strengths or the nearest mean of a class, on features of the embedded start. WORK
keeps the features, so that the table can be made again in seconds.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel

from data import DATASETS, DataSet
from few_rows import DATA, SIZES, test_rows
from process import SPARSE_MODEL
from record import keep, table
from resparse.console import run
from resparse.files import whole_file
from resparse.progress import track
from sparseml.session.models import load_tokenizer, resolve
from sparseml.session.pooling import mean_of_tokens

DRAWS, POOL = 5, 200
STRENGTHS = (0.1, 1.0, 10.0)
READINGS = {"first token": "first", "its pooler": "pooler", "mean of tokens": "mean"}
BATCH, LENGTH = 64, 128


@torch.no_grad()
def features(dataset: DataSet, rows: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """What each reading gives, [rows, width], by name."""
    source = resolve(SPARSE_MODEL)
    tokenizer, model = load_tokenizer(source), AutoModel.from_pretrained(source.folder).eval()
    order = np.argsort([sum(len(row[column]) for column in dataset.columns) for row in rows])
    found: dict[str, list[np.ndarray]] = {name: [] for name in READINGS.values()}
    for start in track(range(0, len(order), BATCH), dataset.name):
        batch = [rows[index] for index in order[start : start + BATCH]]
        texts = [[row[column] for row in batch] for column in dataset.columns]
        inputs = tokenizer(*texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
        output = model(**inputs)
        hidden = output.last_hidden_state
        found["first"].append(hidden[:, 0].numpy())
        found["pooler"].append(output.pooler_output.numpy())
        found["mean"].append(mean_of_tokens(hidden, inputs["attention_mask"]).numpy())
    back = np.argsort(order)
    return {name: np.concatenate(parts)[back] for name, parts in found.items()}


def stored(dataset: DataSet, work: Path) -> dict[str, np.ndarray]:
    """Features and labels of POOL training rows a class and of the test rows, from WORK or made now."""
    path = work / f"{dataset.name}.npz"
    if not path.is_file():
        rows, pool = dataset.splits()["train"], []
        np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
        counts: dict[Any, int] = {}
        for row in rows:
            counts[row[dataset.label]] = counts.get(row[dataset.label], 0) + 1
            if counts[row[dataset.label]] <= POOL:
                pool.append(row)
        tests = test_rows(dataset)
        arrays = {f"train_{name}": found for name, found in features(dataset, pool).items()}
        arrays |= {f"test_{name}": found for name, found in features(dataset, tests).items()}
        arrays |= {"train_labels": np.array([row[dataset.label] for row in pool])}
        arrays |= {"test_labels": np.array([row[dataset.label] for row in tests])}
        work.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def accuracies(held: dict[str, np.ndarray], reading: str, size: int, draw: int) -> dict[str, float]:
    """Accuracy of each way to a classifier, on `size` rows a class."""
    labels, generator = held["train_labels"], np.random.default_rng(draw)
    own = [generator.permutation(np.flatnonzero(labels == label))[:size] for label in np.unique(labels)]
    chosen = np.concatenate(own)
    train, truth, test = held[f"train_{reading}"][chosen], labels[chosen], held[f"test_{reading}"]
    middle, spread = train.mean(axis=0), train.std()
    train, test = (train - middle) / spread, (test - middle) / spread
    classes = np.unique(truth)
    means = np.stack([train[truth == label].mean(axis=0) for label in classes])
    nearest = classes[((test[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)]
    found = {"nearest mean": float(np.mean(nearest == held["test_labels"]))}
    for strength in STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classifier = LogisticRegression(C=strength, max_iter=500).fit(train, truth)
        found[f"regression, C {strength:g}"] = float(np.mean(classifier.predict(test) == held["test_labels"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Frozen features of few rows.")
    parser.add_argument("work", type=Path, help="where features are kept")
    asked = parser.parse_args()
    outcomes = []
    for name in DATA:
        held = stored(DATASETS[name], asked.work)
        for size in SIZES:
            for called, reading in READINGS.items():
                draws = [accuracies(held, reading, size, draw) for draw in range(DRAWS)]
                means = {way: float(np.mean([found[way] for found in draws])) for way in draws[0]}
                outcomes.append({"data": name, "size": size, "reading": called, **means})
    ways = [key for key in outcomes[0] if key not in ("data", "size", "reading")]
    rows = [
        (found["data"], str(found["size"]), found["reading"], *(f"{100 * found[way]:.1f}" for way in ways))
        for found in outcomes
    ]
    said = f"Accuracy in %, mean of {DRAWS} draws of the rows, on 500 test rows; the encoder learns nothing."
    tables = [said, table(("data", "rows a class", "reads", *ways), rows)]
    keep("few_rows_features", "Frozen features of few rows", tables, {"outcomes": outcomes})


if __name__ == "__main__":
    raise SystemExit(run(main))
