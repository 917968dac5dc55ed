"""The front matter of a card: what the Hub shows, filters and compares by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from sparseml.metrics import main_metrics

if TYPE_CHECKING:
    from sparseml.model_card.subject import Subject

_SPLITS = {"eval": "validation", "predict": "test"}
# Our names of metrics, as the Hub's metrics are called; others keep their own.
_METRICS = {
    "exact": "exact_match",
    "f1_macro": "f1",
    "f1_micro": "f1",
    "f1_macro_average": "f1",
    "pearson": "pearsonr",
}
_SPARSE_FROM = 0.1
_NOT_METRICS = (
    "loss",
    "total",
    "thresh",
    "combined_score",
    "runtime",
    "per_second",
    "epoch",
    "samples",
    "steps",
)


def metadata(subject: Subject) -> ModelCardData:
    """The front matter; what is not known is left out."""
    report, origin = subject.report, subject.origin
    # Without a task the Hub has no place for results.
    found = results(report) if subject.pipeline_tag else []
    return ModelCardData(
        base_model=origin.base_model,
        datasets=list(subject.datasets) or None,
        language=list(origin.languages) or None,
        library_name="transformers",
        license=origin.license,
        metrics=list(dict.fromkeys(metric for _, _, metric, _ in found)) or None,
        model_name=subject.name if found else None,
        pipeline_tag=subject.pipeline_tag,
        tags=tags(report),
        eval_results=[_result(subject, *entry) for entry in found] or None,
        ignore_metadata_errors=True,
    )


def tags(report: Mapping[str, Any]) -> list[str]:
    """What the model is, in words that people search for."""
    totals = report["totals"]
    sparse = ["sparse"] if totals["prunable_sparsity"] >= _SPARSE_FROM else []
    int8 = ["int8", "quantized"] if totals["quantized_layers"] else []
    return [*sparse, *int8, "resparse"]


def results(report: Mapping[str, Any]) -> list[tuple[str, str, str, float]]:
    """Split, our name of the metric, the Hub's name, and value."""
    found = []
    for key, value in main_metrics(report["metrics"]).items():
        prefix, _, name = key.partition("_")
        counts = isinstance(value, int | float) and not isinstance(value, bool)
        if prefix not in _SPLITS or not counts or any(word in name for word in _NOT_METRICS):
            continue
        plain = re.sub(r"_mm$", "", name)
        split = _SPLITS[prefix] + ("_mismatched" if plain != name else "")
        found.append((split, plain, _METRICS.get(plain, plain), float(value)))
    return found


def _result(subject: Subject, split: str, name: str, metric: str, value: float) -> EvalResult:
    dataset = subject.datasets[0] if subject.datasets else subject.data_name
    return EvalResult(
        task_type=str(subject.pipeline_tag),
        dataset_type=dataset,
        dataset_name=subject.data_name,
        dataset_split=split,
        metric_type=metric,
        metric_name=name.replace("_", " "),
        metric_value=round(value, 4),
    )
