"""Hub datasets through the real clients, against a Hub on loopback.

The clients read their endpoint when they are imported: one child process loads all the cases of this file and
prints what came out, and each test looks at its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.child import run_json
from support.hub import LoopbackHub
from support.hub_data import convert, parquet, repository

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
TOKEN = "hf_of-this-test"

CHILD = """
import json, sys
from sparseml.data import DataError, DataOptions, load_text_data

SPLITS = ("train", "validation", "validation_mismatched", "test", "test_mismatched")
found = {}
for name, options in json.load(sys.stdin).items():
    try:
        data = load_text_data(DataOptions(**options))
        found[name] = {split: getattr(data, split)[:] for split in SPLITS if getattr(data, split) is not None}
        found[name] |= {"names": data.labels.names, "kind": data.labels.kind, "columns": data.columns.texts}
        found[name] |= {"notes": data.notes, "task": data.task_name}
    except DataError as error:
        found[name] = {"error": str(error)}
print(json.dumps(found))
"""

CASES: dict[str, dict[str, Any]] = {
    "plain": {"dataset_name": "owner/plain"},
    "csv": {"dataset_name": "owner/csv", "validation_ratio": 0.5},
    "old name": {"dataset_name": "rotten_tomatoes"},
    "script": {"dataset_name": "sick", "input_column_names": "sentence_A, sentence_B"},
    "script with configurations": {"dataset_name": "tweet_eval", "dataset_config_name": "emotion"},
    "script, no configuration": {"dataset_name": "tweet_eval"},
    "script, wrong configuration": {"dataset_name": "tweet_eval", "dataset_config_name": "emotions"},
    "script, partly converted": {"dataset_name": "owner/large"},
    "script, never converted": {"dataset_name": "owner/script"},
    "configurations, none": {"dataset_name": "owner/configs"},
    "configurations, wrong": {"dataset_name": "owner/configs", "dataset_config_name": "secnd"},
    "configurations, right": {"dataset_name": "owner/configs", "dataset_config_name": "second"},
    "missing": {"dataset_name": "owner/missing"},
    "private": {"dataset_name": "owner/private"},
    "private, token": {"dataset_name": "owner/private", "token": TOKEN},
    "gated": {"dataset_name": "owner/gated"},
    "empty": {"dataset_name": "owner/empty"},
    "unknown short name": {"dataset_name": "rotten_tomatos"},
    "mrpc": {"task_name": "mrpc", "needs_predict": True},
    "mnli": {"task_name": "mnli", "needs_predict": True},
    "stsb": {"task_name": "stsb", "needs_predict": True},
    "glue by dataset": {"dataset_name": "glue", "dataset_config_name": "mrpc"},
    "eval on secret test": {"task_name": "mrpc", "eval_on_test": True},
    "imdb": {"task_name": "imdb", "eval_on_test": True},
}


def pairs(first: str, second: str, labels: list[Any]) -> dict[str, list[Any]]:
    count = len(labels)
    return {
        first: [f"a {row}" for row in range(count)],
        second: [f"b {row}" for row in range(count)],
        "label": labels,
    }


def fill(hub: LoopbackHub) -> None:
    """The repositories of `CASES`."""
    texts = parquet({"text": ["a", "b"], "label": [1, 0]})
    both = {"data/train-00000-of-00001.parquet": texts, "data/validation-00000-of-00001.parquet": texts}
    hub.tokens.add(TOKEN)
    hub.add("owner/plain", both, "datasets")
    hub.add("owner/csv", {"train.csv": b"text,label\na,x\nb,y\nc,x\nd,y\n"}, "datasets")
    hub.add("cornell-movie-review-data/rotten_tomatoes", both, "datasets")
    hub.add("owner/private", both, "datasets", private=True)
    hub.add("owner/gated", both, "datasets", gated=True)
    hub.add("owner/empty", {"README.md": b"nothing yet"}, "datasets")
    splits = {"train": texts, "validation": texts}
    hub.add("owner/configs", repository({"first": splits, "second": splits}), "datasets")
    for repo in ("RobZamp/sick", "cardiffnlp/tweet_eval", "owner/large", "owner/script"):
        hub.add(repo, {f"{repo.split('/')[1]}.py": b"raise SystemExit('never run')"}, "datasets")
    sick = parquet(pairs("sentence_A", "sentence_B", [0, 1]), ("entailment", "neutral", "contradiction"))
    convert(hub, "RobZamp/sick", {"default/train": sick, "default/validation": sick})
    tweets = {
        f"{config}/{split}": texts for config in ("emoji", "emotion") for split in ("train", "validation")
    }
    convert(hub, "cardiffnlp/tweet_eval", tweets)
    convert(hub, "owner/large", {"default/partial-train": texts, "default/validation": texts})
    fill_tasks(hub)


def fill_tasks(hub: LoopbackHub) -> None:
    mrpc = parquet(pairs("sentence1", "sentence2", [0, 1]), ("not_equivalent", "equivalent"))
    secret = parquet(pairs("sentence1", "sentence2", [-1, -1]), ("not_equivalent", "equivalent"))
    names = ("entailment", "neutral", "contradiction")
    mnli = parquet(pairs("premise", "hypothesis", [2, 1, 0]), names)
    unknown = parquet(pairs("premise", "hypothesis", [-1]), names)
    scores, no_scores = (
        parquet(pairs("sentence1", "sentence2", labels), ()) for labels in ([5.0, 0.0], [-1.0, -1.0])
    )
    files = {
        "mrpc": {"train": mrpc, "validation": mrpc, "test": secret},
        "stsb": {"train": scores, "validation": scores, "test": no_scores},
        "mnli": {
            "train": mnli,
            "validation_matched": mnli,
            "validation_mismatched": mnli,
            "test_matched": unknown,
            "test_mismatched": unknown,
        },
    }
    hub.add("nyu-mll/glue", repository(files), "datasets")
    reviews = parquet({"text": ["a", "b"], "label": [1, 0]}, ("neg", "pos"))
    more = parquet({"text": ["c"], "label": [-1]}, ("neg", "pos"))
    imdb = {"train": reviews, "test": reviews, "unsupervised": more}
    hub.add("stanfordnlp/imdb", repository({"plain_text": imdb}), "datasets")


def run_child(environment: dict[str, str], cases: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return run_json(CHILD, cases, {**environment, "PYTHONPATH": SOURCE}, folder)


@pytest.fixture(scope="module")
def hub_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("hub")
    with LoopbackHub() as hub:
        fill(hub)
        yield hub.environment(folder)


@pytest.fixture(scope="module")
def found(hub_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_child(hub_environment, CASES, tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("case", ["plain", "old name", "configurations, right", "private, token"])
def test_datasets_with_data_files(found: dict[str, Any], case: str):
    result = found[case]
    assert result["train"] == {"text": ["a", "b"], "labels": [1, 0]}
    assert result["validation"] == result["train"]
    assert result["names"] == ["no", "yes"]


def test_old_name_is_said_to_have_moved(found: dict[str, Any]):
    note = "dataset: 'rotten_tomatoes' is cornell-movie-review-data/rotten_tomatoes on the Hub"
    assert note in found["old name"]["notes"]


def test_csv_on_the_hub(found: dict[str, Any]):
    assert found["csv"]["names"] == ["x", "y"]
    assert len(found["csv"]["train"]["text"]) == 2


def test_script_only_repository_is_read_from_its_conversion(found: dict[str, Any]):
    assert found["script"]["names"] == ["entailment", "neutral", "contradiction"]
    assert found["script"]["train"]["sentence_A"] == ["a 0", "a 1"]
    assert any("Parquet conversion" in note for note in found["script"]["notes"])
    assert found["script with configurations"]["names"] == ["no", "yes"]


def test_conversion_of_a_part_is_said_to_be_one(found: dict[str, Any]):
    assert len(found["script, partly converted"]["train"]["text"]) == 2
    assert any("only a first part of train" in note for note in found["script, partly converted"]["notes"])


@pytest.mark.parametrize(
    ("case", "repo", "said"),
    [
        ("missing", "owner/missing", "is private or does not exist"),
        ("private", "owner/private", "is private or does not exist"),
        ("gated", "owner/gated", "gated"),
        ("empty", "owner/empty", "empty"),
        (
            "configurations, none",
            "owner/configs",
            "several configurations: first, second. Choose one",
        ),
        ("configurations, wrong", "owner/configs", "no configuration 'secnd'. Did you mean 'second'?"),
        ("script, no configuration", "cardiffnlp/tweet_eval", "several configurations: emoji, emotion"),
        ("script, wrong configuration", "cardiffnlp/tweet_eval", "Did you mean 'emotion'"),
        ("script, never converted", "owner/script", "only a loading script"),
        ("unknown short name", "rotten_tomatos", "Did you mean 'rotten_tomatoes'?"),
        ("eval on secret test", "nyu-mll/glue", "of 2 rows, 2 without label"),
    ],
)
def test_errors_are_one_line_that_names_the_repository(
    found: dict[str, Any], case: str, repo: str, said: str
):
    message = found[case]["error"]
    assert repo in message
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("case", ["mrpc", "glue by dataset"])
def test_glue(found: dict[str, Any], case: str):
    assert found[case]["task"] == "mrpc"
    assert found[case]["names"] == ["not_equivalent", "equivalent"]
    assert found[case]["columns"] == ["sentence1", "sentence2"]


def test_glue_test_split_has_no_labels(found: dict[str, Any]):
    assert sorted(found["mrpc"]["test"]) == ["sentence1", "sentence2"]
    assert sorted(found["stsb"]["test"]) == ["sentence1", "sentence2"]


def test_mnli_has_both_of_its_evaluation_splits(found: dict[str, Any]):
    assert found["mnli"]["validation"]["labels"] == [2, 1, 0]
    assert found["mnli"]["validation_mismatched"]["labels"] == [2, 1, 0]
    assert {"test", "test_mismatched"} <= set(found["mnli"])


def test_stsb_is_regression(found: dict[str, Any]):
    assert found["stsb"]["kind"] == "regression"
    assert found["stsb"]["train"]["labels"] == [5.0, 0.0]


def test_imdb_is_a_task(found: dict[str, Any]):
    assert found["imdb"]["names"] == ["neg", "pos"]
    assert len(found["imdb"]["validation"]["text"]) == 2


def test_no_network(tmp_path: Path):
    with LoopbackHub() as hub:
        environment = hub.environment(tmp_path)
    message = run_child(environment, {"case": CASES["old name"]}, tmp_path)["case"]["error"]
    assert "cornell-movie-review-data/rotten_tomatoes, for rotten_tomatoes, cannot be reached" in message
    assert "\n" not in message


def test_what_was_downloaded_is_there_offline(found: dict[str, Any], hub_environment: dict[str, str]):
    cases = {name: CASES[name] for name in ("old name", "script", "script with configurations")}
    again = run_child(hub_environment | {"HF_HUB_OFFLINE": "1"}, cases, Path(hub_environment["HF_HOME"]))
    for name in cases:
        assert again[name].get("train") == found[name]["train"]
