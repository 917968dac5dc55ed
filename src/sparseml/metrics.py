"""Metrics of predictions: GLUE's own, and suitable ones for any other data.

Every function takes NumPy arrays; scikit-learn and SciPy are imported within. An undefined metric (a correlation with
a constant, a class that never occurs) is 0.0, and nothing is printed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from resparse import thresholds
from sparseml.data.known_datasets import BENCHMARK_TASKS, BenchmarkTask
from sparseml.data.label_encoding import MULTI, REGRESSION, Labels
from sparseml.decisions import decisions
from sparseml.selective import outside_id, selective_metrics


class Evaluation(Protocol):
    """The used attributes of `transformers.EvalPrediction`."""

    @property
    def predictions(self) -> Any: ...
    @property
    def label_ids(self) -> Any: ...


Metrics = dict[str, float]

_OF_ONE_LABEL = re.compile(r"(eval_|predict_)?(precision|recall|f1)_(?!macro|micro|std)")
_MOST_SHOWN = 12


def metrics_for(task_name: str | None, labels: Labels) -> Callable[[Evaluation], Metrics]:
    """The function that the Trainer calls after each evaluation.

    It takes an object with `predictions`, logits (rows, num_labels) or a tuple that begins with them, and `label_ids`,
    as `load_text_data` encodes labels. A name in `BENCHMARK_TASKS` selects the benchmark's own metrics (several come
    with their mean, `combined_score`).
    """
    if task_name is not None:
        task = BENCHMARK_TASKS[task_name]
        return lambda evaluation: _benchmark(task, labels, *_arrays(evaluation))
    if labels.kind == REGRESSION:
        return lambda evaluation: regression_metrics(*_arrays(evaluation))
    if labels.kind == MULTI:
        return lambda evaluation: _multi_label(labels, *_arrays(evaluation))
    return lambda evaluation: _single_label(labels, *_arrays(evaluation))


def main_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics to show: without those of single labels, where there are many."""
    if len(metrics) <= _MOST_SHOWN:
        return dict(metrics)
    return {name: value for name, value in metrics.items() if not _OF_ONE_LABEL.match(name)}


def confusion(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The confusion matrix of class ids (rows,), as {true class: {predicted class: rows}}."""
    size = len(names)
    flat = np.asarray(labels, dtype=np.int64) * size + np.asarray(predictions, dtype=np.int64)
    counts = np.bincount(flat, minlength=size * size).reshape(size, size)
    return {
        true: {predicted: int(counts[row, column]) for column, predicted in enumerate(names)}
        for row, true in enumerate(names)
    }


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Accuracy, and what does not let common classes hide the rare ones.

    That is the mean of F1 over the classes that occur among labels or predictions, the same weighted by their rows, and
    balanced accuracy: the mean of recall over the classes that occur among labels.
    """
    from sklearn.metrics import f1_score, recall_score

    predicted, truth = logits.argmax(axis=-1), np.asarray(labels)
    with _silent():
        macro, weighted = (
            f1_score(truth, predicted, average=average, zero_division=0) for average in ("macro", "weighted")
        )
        balanced = recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    return {
        "accuracy": _accuracy(truth, predicted),
        "f1_macro": float(macro),
        "f1_weighted": float(weighted),
        "balanced_accuracy": float(balanced),
    }


def regression_metrics(scores: np.ndarray, labels: np.ndarray) -> Metrics:
    """Mean squared error, and Pearson's and Spearman's correlation."""
    predicted = np.asarray(scores, dtype=np.float64).reshape(len(labels))
    error = float(np.mean((predicted - np.asarray(labels, dtype=np.float64)) ** 2))
    return {"mse": error, "pearson": _pearson(labels, predicted), "spearmanr": _spearman(labels, predicted)}


def multi_label_metrics(
    logits: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    threshold: thresholds.Threshold = thresholds.DEFAULT,
) -> Metrics:
    """Precision, recall and F1 of each label, their mean and spread over labels, and F1 over all decisions.

    Of logits and labels (rows, num_labels), the latter 0 and 1. Keys are SparseML's: "precision_NAME",
    "precision_macro_average", "precision_std", likewise for recall and f1; and "f1_micro".
    """
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    truth = np.asarray(labels) > 0.5
    predicted = decisions(logits, MULTI, threshold).astype(bool)
    with _silent():
        per_label = precision_recall_fscore_support(truth, predicted, average=None, zero_division=0)[:3]
        micro = f1_score(truth, predicted, average="micro", zero_division=0)
    results: Metrics = {}
    for metric, values in zip(("precision", "recall", "f1"), per_label, strict=True):
        results |= {f"{metric}_{name}": float(value) for name, value in zip(names, values, strict=True)}
        results[f"{metric}_macro_average"] = float(np.mean(values))
        results[f"{metric}_std"] = float(np.std(values))
    return results | {"f1_micro": float(micro)}


def _multi_label(labels: Labels, logits: np.ndarray, truth: np.ndarray) -> Metrics:
    return multi_label_metrics(labels.confidence.scaled(logits), truth, labels.names, labels.threshold)


def _single_label(labels: Labels, logits: np.ndarray, truth: np.ndarray) -> Metrics:
    """Metrics of the rows in scope, and where the model may give no label those of that, too."""
    # Rows out of scope, where that is no class, have no right answer among the logits.
    known = truth < labels.num_labels if outside_id(labels) == labels.num_labels else slice(None)
    return {
        **classification_metrics(logits[known], truth[known]),
        **selective_metrics(logits, truth, labels),
    }


def _benchmark(task: BenchmarkTask, labels: Labels, logits: np.ndarray, truth: np.ndarray) -> Metrics:
    predicted = decisions(logits, labels.kind)
    if "f1" in task.metrics:
        # F1 is of the task's second class, whose id may differ in a model.
        positive = labels.label2id.get(task.names[1], 1)
        truth, predicted = truth == positive, predicted == positive
    results = {name: _METRICS[name](truth, predicted) for name in task.metrics}
    if len(results) > 1:
        results["combined_score"] = float(np.mean(list(results.values())))
    if labels.kind == REGRESSION:
        results["mse"] = regression_metrics(predicted, truth)["mse"]
    return results


def _arrays(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels; of a model's several outputs the first are the logits."""
    outputs = evaluation.predictions
    return np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs), np.asarray(evaluation.label_ids)


def _accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(np.asarray(labels) == predicted))


def _f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    with _silent():
        return float(f1_score(labels, predicted, zero_division=0))


def _matthews(labels: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    with _silent():
        return _defined(matthews_corrcoef(labels, predicted))


def _pearson(labels: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, labels, predicted)


def _spearman(labels: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, labels, predicted)


def _correlation(correlate: Callable[..., Any], labels: np.ndarray, predicted: np.ndarray) -> float:
    if len(labels) < 2:
        return 0.0
    with _silent():
        return _defined(correlate(labels, predicted).statistic)


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearmanr": _spearman,
}


def _defined(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress the libraries' warnings about undefined metrics, which are defined here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
