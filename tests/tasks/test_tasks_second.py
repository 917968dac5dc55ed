"""A second task, known to these tests alone, goes through every part that text classification goes through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import deepsparse.tasks
import sparseml.tasks
from deepsparse import Pipeline
from sparseml import cli
from sparseml.tasks import Entry, TaskError, load_task
from sparseml.training import run
from sparseml.transformers import eval_downstream, export
from support import tagging, tiny

TEXT = "a lovely film and a dull song"


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        entry = Entry("support.tagging:Tagging", "ForTokenClassification", ("word_tags",))
        patch.delitem(sparseml.tasks.TASKS, "token_classification")  # it has the same models
        patch.setitem(sparseml.tasks.TASKS, "tagging", entry)
        patch.setattr(deepsparse.tasks, "_TASKS", dict(deepsparse.tasks._TASKS))
        deepsparse.tasks.register(tagging.DeployedTagging)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows and a tagger, pruned, quantized and distilled; not to be changed."""
    place = tmp_path_factory.mktemp("tagging")
    for split, count in (("train", 96), ("validation", 32), ("test", 16)):
        tiny.write(place / f"{split}.csv", tagging.rows(count, seed=count))
    start = tiny.bert(place / "start")
    common = {
        "train_file": str(place / "train.csv"),
        "validation_file": str(place / "validation.csv"),
        "test_file": str(place / "test.csv"),
        "do_train": True,
        "do_eval": True,
        "do_predict": True,
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "max_seq_length": 32,
    }
    task = load_task("word-tags")
    dense = {"model_name_or_path": str(start), "output_dir": str(place / "teacher")}
    run.main(task, **common, **dense, num_train_epochs=2, learning_rate=1e-2)
    run.main(
        task,
        **common,
        model_name_or_path=str(start),
        output_dir=str(place / "model"),
        recipe=tiny.RECIPE.replace("2e-3", "1e-2") + tiny.DISTILLATION,
        distill_teacher=str(place / "teacher"),
    )
    return place


@pytest.fixture(scope="module")
def deployed(trained: Path) -> Path:
    export.main(["--model_path", str(trained / "model")])
    return trained / "deployment"


def test_it_is_trained_evaluated_and_predicted(trained: Path) -> None:
    report = json.loads((trained / "model" / "report.json").read_text())
    assert report["metrics"]["eval_tag_accuracy"] > 0.9
    assert report["totals"]["prunable_sparsity"] > 0.5 and report["totals"]["quantized_layers"] > 8
    assert report["data"]["labels"] == list(tagging.TAGS)
    assert len(json.loads((trained / "model" / "predict_results_tags.json").read_text())) == 16


def test_its_export_is_compared_token_by_token_and_names_the_task(deployed: Path) -> None:
    assert json.loads((deployed / "config.json").read_text())["task"] == "tagging"
    checked = json.loads((deployed / "report.json").read_text())["export"]["verification"]
    assert checked["rows"] == 32 and checked["label_agreement"] == 1


def test_it_runs_in_a_pipeline_and_on_files(deployed: Path, trained: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.create(model_path=deployed)
    wanted = [tagging.tag(word) for word in TEXT.split()]
    assert pipeline([TEXT]).tags == [wanted]
    output = tmp_path / "tagged.csv"
    words = ["predict", str(deployed), "--input", str(trained / "start.csv"), "--output", str(output)]
    tiny.write(trained / "start.csv", [{"text": TEXT}])
    assert cli.main(words) == 0
    assert output.read_text().splitlines() == ["text,tags", f"{TEXT},{' '.join(wanted)}"]


def test_its_deployment_is_evaluated(
    deployed: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eval_downstream.main([str(deployed), "-d", str(trained / "validation.csv")]) == 0
    assert float(capsys.readouterr().out.removeprefix("tag_accuracy: ")) > 0.9


def test_the_server_serves_it(deployed: Path) -> None:
    testing = pytest.importorskip("fastapi.testclient")
    from deepsparse.server.app import create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints
    from deepsparse.server.service import Server

    config = parse_config(
        {"endpoints": [{"task": "tagging", "model": str(deployed), "name": "tagging"}]}, "test"
    )
    server = Server(Endpoints(config), config)
    with testing.TestClient(create_app(server)) as client:
        answer = client.post("/v2/models/tagging/infer", json={"sequences": [TEXT]})
    assert answer.json() == {"tags": [[tagging.tag(word) for word in TEXT.split()]]}


def test_names_that_no_task_has() -> None:
    with pytest.raises(TaskError, match="tagging"):
        load_task("taging")
