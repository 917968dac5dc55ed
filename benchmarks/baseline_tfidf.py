"""The cheap baseline: TF-IDF and logistic regression on the same splits as the trained models.

Words and word pairs, logarithmic term counts; C is chosen on the validation rows. Sentence pairs give four blocks of
features: either sentence, the absolute difference of the two, and their product.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from data import DATASETS, SPLITS, DataSet
from record import keep, table
from resparse.console import run, say

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Outcome:
    """Accuracies are shares of 1; `seconds` is the fit with the chosen C, features included."""

    dataset: str
    strength: float
    validation_accuracy: float
    test_accuracy: float
    test_rows: int
    seconds: float


class Features:
    """TF-IDF features of rows with one or two text columns; fitted on the rows given."""

    def __init__(self, dataset: DataSet, rows: list[dict[str, Any]]) -> None:
        self.columns = dataset.columns
        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        self.vectorizer.fit(row[column] for row in rows for column in self.columns)

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        """A sparse matrix [rows, features]."""
        blocks = [self.vectorizer.transform([row[column] for row in rows]) for column in self.columns]
        if len(blocks) == 1:
            return blocks[0]
        first, second = blocks
        return sparse.hstack([first, second, abs(first - second), first.multiply(second)]).tocsr()


class Classifier:
    """TF-IDF features and logistic regression of one strength, fitted on rows of `dataset`."""

    def __init__(self, dataset: DataSet, rows: list[dict[str, Any]], strength: float) -> None:
        self.label = dataset.label
        self.features = Features(dataset, rows)
        self.model = LogisticRegression(C=strength, max_iter=2000)
        self.model.fit(self.features(rows), _labels(self.label, rows))

    def predict(self, rows: list[dict[str, Any]]) -> Any:
        """The class of each row."""
        return self.model.predict(self.features(rows))

    def score(self, rows: list[dict[str, Any]]) -> float:
        """Accuracy, a share of 1."""
        return float(np.mean(self.predict(rows) == _labels(self.label, rows)))


def chosen(
    dataset: DataSet, train: list[dict[str, Any]], validation: list[dict[str, Any]]
) -> tuple[float, float]:
    """The strength that is best on the validation rows, and its accuracy there."""
    scores = {strength: Classifier(dataset, train, strength).score(validation) for strength in STRENGTHS}
    strength = max(scores, key=lambda candidate: scores[candidate])
    return strength, scores[strength]


def measure(dataset: DataSet) -> Outcome:
    """Choose C on the validation rows, then score the test rows once."""
    splits = dataset.splits()
    train, validation, test = (splits[split] for split in SPLITS)
    strength, validation_score = chosen(dataset, train, validation)
    started = time.perf_counter()
    classifier = Classifier(dataset, train, strength)
    seconds = time.perf_counter() - started
    return Outcome(dataset.name, strength, validation_score, classifier.score(test), len(test), seconds)


def _labels(label: str, rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([row[label] for row in rows])


def main() -> None:
    names = [name for name, dataset in DATASETS.items() if dataset.metrics == ("accuracy",)]
    parser = argparse.ArgumentParser(description="Accuracy of TF-IDF + logistic regression.")
    parser.add_argument("--datasets", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    outcomes = []
    for name in arguments.datasets:
        say(f"{name} ...")
        outcomes.append(measure(DATASETS[name]))
    rows = [
        (
            outcome.dataset,
            f"{outcome.strength:g}",
            f"{outcome.validation_accuracy:.1%}",
            f"{outcome.test_accuracy:.1%}",
            str(outcome.test_rows),
            f"{outcome.seconds:.1f} s",
        )
        for outcome in outcomes
    ]
    keep(
        "baseline_tfidf",
        "TF-IDF + logistic regression",
        [table(("data set", "C", "validation", "test", "test rows", "fit"), rows)],
        {"outcomes": [asdict(outcome) for outcome in outcomes]},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
