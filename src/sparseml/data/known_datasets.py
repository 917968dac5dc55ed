"""Datasets known by name: the benchmark tasks of `--task_name`, and the new ids of datasets without an owner."""

from __future__ import annotations

from dataclasses import dataclass

from resparse.errors import did_you_mean
from sparseml.data.rows import DataError


@dataclass(frozen=True)
class BenchmarkTask:
    """A benchmark task."""

    repo: str  # of the Hub dataset; likewise config
    config: str | None
    columns: tuple[str, ...]  # the one or two text columns
    names: tuple[str, ...]  # class names in the order of the ids; empty for regression
    metrics: tuple[str, ...] = ("accuracy",)  # the benchmark's own, by their names in `evaluate`


_GLUE = "nyu-mll/glue"
_ENTAILMENT = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

# Wang et al., "GLUE" (https://openreview.net/forum?id=rJ4km2R5t7), table 1: metrics. Class ids as on the Hub.
BENCHMARK_TASKS: dict[str, BenchmarkTask] = {
    "cola": BenchmarkTask(
        _GLUE, "cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation",)
    ),
    "mnli": BenchmarkTask(
        _GLUE, "mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")
    ),
    "mrpc": BenchmarkTask(_GLUE, "mrpc", _PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "qnli": BenchmarkTask(_GLUE, "qnli", ("question", "sentence"), _ENTAILMENT),
    "qqp": BenchmarkTask(
        _GLUE, "qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")
    ),
    "rte": BenchmarkTask(_GLUE, "rte", _PAIR, _ENTAILMENT),
    "sst2": BenchmarkTask(_GLUE, "sst2", ("sentence",), ("negative", "positive")),
    "stsb": BenchmarkTask(_GLUE, "stsb", _PAIR, (), ("pearson", "spearmanr")),
    "wnli": BenchmarkTask(_GLUE, "wnli", _PAIR, ("not_entailment", "entailment")),
    "imdb": BenchmarkTask("stanfordnlp/imdb", None, ("text",), ("neg", "pos")),
}


# Old names without an owner, and the repositories that replaced them.
RENAMED_DATASETS = {
    "ag_news": "fancyzhx/ag_news",
    "amazon_polarity": "fancyzhx/amazon_polarity",
    "banking77": "PolyAI/banking77",
    "conll2003": "eriktks/conll2003",
    "conllpp": "ZihanWangKi/conllpp",
    "dbpedia_14": "fancyzhx/dbpedia_14",
    "emotion": "dair-ai/emotion",
    "financial_phrasebank": "takala/financial_phrasebank",
    "glue": "nyu-mll/glue",
    "go_emotions": "google-research-datasets/go_emotions",
    "imdb": "stanfordnlp/imdb",
    "multi_nli": "nyu-mll/multi_nli",
    "rotten_tomatoes": "cornell-movie-review-data/rotten_tomatoes",
    "sick": "RobZamp/sick",
    "snli": "stanfordnlp/snli",
    "squad": "rajpurkar/squad",
    "squad_v2": "rajpurkar/squad_v2",
    "sst2": "stanfordnlp/sst2",
    "super_glue": "aps/super_glue",
    "trec": "CogComp/trec",
    "tweet_eval": "cardiffnlp/tweet_eval",
    "wikiann": "unimelb-nlp/wikiann",
    "wnut_17": "leondz/wnut_17",
    "yahoo_answers_topics": "community-datasets/yahoo_answers_topics",
    "yelp_polarity": "fancyzhx/yelp_polarity",
    "yelp_review_full": "Yelp/yelp_review_full",
}


def benchmark_key(name: str) -> str:
    """A name in the form of the keys of `BENCHMARK_TASKS`."""
    return name.strip().lower().replace("-", "").replace("_", "")


def find_benchmark_task(name: str) -> tuple[str, BenchmarkTask]:
    """The key in `BENCHMARK_TASKS` and the task of a name such as "SST-2"; a DataError gives the nearest names."""
    key = benchmark_key(name)
    if key not in BENCHMARK_TASKS:
        raise DataError(
            f"--task_name {name}: there is no such task. {did_you_mean(key, BENCHMARK_TASKS, most=2)}"
        )
    return key, BENCHMARK_TASKS[key]
