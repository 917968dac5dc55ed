"""The tasks that `--task_name` knows: where they live, their columns, class names and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from resparse.errors import did_you_mean
from sparseml.data.errors import DataError


@dataclass(frozen=True)
class Task:
    """A benchmark task.

    Attributes:
        repo, config: of the Hub dataset.
        columns: the one or two text columns.
        names: class names in the order of the ids; empty for regression.
        metrics: the benchmark's own, under the names that `evaluate` gave them.
    """

    repo: str
    config: str | None
    columns: tuple[str, ...]
    names: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)


_GLUE = "nyu-mll/glue"
_ENTAILMENT = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

# Wang et al., "GLUE" (https://openreview.net/forum?id=rJ4km2R5t7), table 1: metrics. Class ids as on the Hub.
TASKS: dict[str, Task] = {
    "cola": Task(_GLUE, "cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation",)),
    "mnli": Task(_GLUE, "mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "mrpc": Task(_GLUE, "mrpc", _PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "qnli": Task(_GLUE, "qnli", ("question", "sentence"), _ENTAILMENT),
    "qqp": Task(_GLUE, "qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "rte": Task(_GLUE, "rte", _PAIR, _ENTAILMENT),
    "sst2": Task(_GLUE, "sst2", ("sentence",), ("negative", "positive")),
    "stsb": Task(_GLUE, "stsb", _PAIR, (), ("pearson", "spearmanr")),
    "wnli": Task(_GLUE, "wnli", _PAIR, ("not_entailment", "entailment")),
    "imdb": Task("stanfordnlp/imdb", None, ("text",), ("neg", "pos")),
}


def find_task(name: str) -> tuple[str, Task]:
    """The task of this name, in any case and with or without hyphens ("SST-2"), and the name as in `TASKS`.

    Raises:
        DataError: there is none, with the nearest names.
    """
    key = name.strip().lower().replace("-", "").replace("_", "")
    if key not in TASKS:
        raise DataError(f"--task_name {name}: there is no such task. {did_you_mean(key, TASKS, most=2)}")
    return key, TASKS[key]
