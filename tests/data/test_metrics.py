"""Metrics against scikit-learn and SciPy, and in the cases that these leave undefined."""

from __future__ import annotations

import json
import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics as reference

from sparseml.data.known_datasets import BENCHMARK_TASKS
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Labels
from sparseml.decisions import decisions, probabilities
from sparseml.metrics import confusion, metrics_for

RNG = np.random.default_rng(0)
LOGITS = st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=1, max_size=5)


def evaluate(task: str | None, labels: Labels, logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    results = metrics_for(task, labels)(SimpleNamespace(predictions=logits, label_ids=truth))
    assert all(type(value) is float and math.isfinite(value) for value in results.values())
    json.dumps(results, allow_nan=False)
    return results


def classes(count: int) -> Labels:
    return Labels(SINGLE, tuple(f"class {index}" for index in range(count)))


def test_single_label():
    logits, truth = RNG.normal(size=(50, 4)), RNG.integers(0, 4, 50)
    predicted = logits.argmax(1)
    assert evaluate(None, classes(4), logits, truth) == {
        "accuracy": pytest.approx(reference.accuracy_score(truth, predicted)),
        "f1_macro": pytest.approx(reference.f1_score(truth, predicted, average="macro")),
        "f1_weighted": pytest.approx(reference.f1_score(truth, predicted, average="weighted")),
        "balanced_accuracy": pytest.approx(reference.balanced_accuracy_score(truth, predicted)),
    }


def test_logits_may_come_first_in_a_tuple():
    logits, truth = RNG.normal(size=(9, 2)), RNG.integers(0, 2, 9)
    results = metrics_for(None, classes(2))(SimpleNamespace(predictions=(logits, None), label_ids=truth))
    assert results == evaluate(None, classes(2), logits, truth)


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_regression(shape: tuple[int, ...]):
    scores, truth = RNG.normal(size=shape), RNG.normal(size=40)
    flat = scores.reshape(40)
    assert evaluate(None, Labels(REGRESSION, ("score",)), scores, truth) == {
        "mse": pytest.approx(reference.mean_squared_error(truth, flat)),
        "pearson": pytest.approx(stats.pearsonr(truth, flat).statistic),
        "spearmanr": pytest.approx(stats.spearmanr(truth, flat).statistic),
    }


def test_multi_label_under_the_old_keys():
    names = ("joy", "anger", "fear")
    logits, truth = RNG.normal(size=(60, 3)), RNG.integers(0, 2, (60, 3))
    predicted = special.expit(logits) > 0.3
    results = evaluate(None, Labels(MULTI, names), logits, truth.astype(np.float32))
    expected = {"f1_micro": reference.f1_score(truth, predicted, average="micro")}
    for metric in ("precision", "recall", "f1"):
        score = getattr(reference, f"{metric}_score")
        values = [score(truth[:, index], predicted[:, index]) for index in range(3)]
        expected |= {f"{metric}_{name}": value for name, value in zip(names, values, strict=True)}
        expected[f"{metric}_macro_average"] = statistics.fmean(values)
        expected[f"{metric}_std"] = statistics.pstdev(values)
    assert results == pytest.approx(expected)


@pytest.mark.parametrize("task", sorted(set(BENCHMARK_TASKS) - {"stsb"}))
def test_benchmark_metrics(task: str):
    labels = Labels(SINGLE, BENCHMARK_TASKS[task].names)
    logits, truth = RNG.normal(size=(80, labels.num_labels)), RNG.integers(0, labels.num_labels, 80)
    predicted = logits.argmax(1)
    accuracy = reference.accuracy_score(truth, predicted)
    if task == "cola":
        expected = {"matthews_correlation": reference.matthews_corrcoef(truth, predicted)}
    elif task in ("mrpc", "qqp"):
        f1 = reference.f1_score(truth, predicted)
        expected = {"accuracy": accuracy, "f1": f1, "combined_score": (accuracy + f1) / 2}
    else:
        expected = {"accuracy": accuracy}
    assert evaluate(task, labels, logits, truth) == pytest.approx(expected)


def test_stsb():
    scores, truth = RNG.normal(size=(30, 1)), RNG.uniform(0, 5, 30)
    results = evaluate("stsb", Labels(REGRESSION, ("label",)), scores, truth)
    assert set(results) == {"pearson", "spearmanr", "combined_score", "mse"}
    assert results["combined_score"] == pytest.approx((results["pearson"] + results["spearmanr"]) / 2)


def test_f1_is_of_the_same_class_in_a_model_with_another_order():
    logits, truth = RNG.normal(size=(40, 2)), RNG.integers(0, 2, 40)
    names = BENCHMARK_TASKS["mrpc"].names
    turned = evaluate("mrpc", Labels(SINGLE, names[::-1]), logits[:, ::-1], 1 - truth)
    assert turned == pytest.approx(evaluate("mrpc", Labels(SINGLE, names), logits, truth))


@pytest.mark.parametrize(
    ("task", "labels", "logits", "truth"),
    [
        ("cola", classes(2), np.array([[1.0, 0.0]] * 4), np.array([0, 1, 0, 1])),
        ("stsb", Labels(REGRESSION, ("s",)), np.ones((4, 1)), np.arange(4.0)),
        ("stsb", Labels(REGRESSION, ("s",)), np.ones((1, 1)), np.ones(1)),
        ("mrpc", classes(2), np.array([[1.0, 0.0]] * 3), np.zeros(3, int)),
        (None, classes(3), np.array([[1.0, 0.0, 0.0]] * 3), np.array([0, 1, 1])),
        (None, Labels(MULTI, ("a", "b")), np.full((3, 2), -9.0), np.zeros((3, 2))),
        (None, Labels(REGRESSION, ("s",)), np.arange(3.0), np.ones(3)),
    ],
)
def test_what_is_undefined_is_zero_and_silent(
    task: str | None, labels: Labels, logits: np.ndarray, truth: np.ndarray
):
    evaluate(task, labels, logits, truth)


@given(LOGITS)
def test_probabilities_are_those_of_scipy(logits: list[list[float]]):
    values = np.array(logits)
    assert probabilities(values, SINGLE) == pytest.approx(special.softmax(values, axis=-1))
    assert probabilities(values, MULTI) == pytest.approx(special.expit(values))
    assert np.array_equal(probabilities(values, REGRESSION), values)


def test_probabilities_of_extreme_half_precision_logits():
    values = np.array([[65504.0, -65504.0]], dtype=np.float16)
    assert probabilities(values, SINGLE).tolist() == [[1.0, 0.0]]
    assert probabilities(values, MULTI).tolist() == [[1.0, 0.0]]


def test_decisions():
    logits = np.array([[0.0, 3.0], [-3.0, -4.0]])
    assert decisions(logits, SINGLE).tolist() == [1, 0]
    assert decisions(logits, MULTI).tolist() == [[1, 1], [0, 0]]
    assert decisions(logits[:, :1], REGRESSION).tolist() == [0.0, -3.0]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_confusion_is_that_of_scikit_learn(pairs: list[tuple[int, int]]):
    truth, predicted = np.array(pairs).T
    names = ("a", "b", "c")
    expected = reference.confusion_matrix(truth, predicted, labels=[0, 1, 2])
    found = confusion(truth, predicted, names)
    assert [[found[true][guess] for guess in names] for true in names] == expected.tolist()
