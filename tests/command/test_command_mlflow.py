"""`--report_to mlflow`: one run for a training, its evaluation and its model; against the report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'resparse[mlflow]'")
pytest.importorskip("pandas")

import mlflow

import deepsparse.mlflow as flavour
from deepsparse import Pipeline
from resparse.errors import UserError
from sparseml.transformers import text_classification
from support import tiny

# MLflow's own modules, and its store of files, warn of their own future.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    uri = (tmp_path / "runs").as_uri()
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(None)


def runs() -> list[Any]:
    return mlflow.MlflowClient().search_runs(["0"])


def test_one_run_has_metrics_arguments_and_the_files(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = tiny.train(
        pruned_model, rows_folder, tmp_path / "out", report_to="mlflow", run_name="mood", do_eval=True
    )
    (run,) = runs()
    assert run.info.status == "FINISHED" and run.info.run_name == "mood"
    assert run.data.metrics["eval_accuracy"] == pytest.approx(report["metrics"]["eval_accuracy"])
    assert run.data.metrics["prunable_sparsity"] == pytest.approx(report["totals"]["prunable_sparsity"])
    assert run.data.params["learning_rate"]
    assert run.data.tags["resparse.task"] == "text_classification"
    files = {
        Path(file.path).name for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, "checkpoint")
    }
    assert {"model.safetensors", "recipe.yaml", "modifiers.safetensors", "report.json", "README.md"} <= files
    assert not files & {"training_args.bin", "run.json"}
    assert f"MLflow: run {run.info.run_id}" in capfd.readouterr().err
    assert mlflow.active_run() is None


@pytest.mark.slow
def test_a_guided_run_logs_its_deployment(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    text_classification.main(
        train_file=str(rows_folder / "train.csv"),
        model_name_or_path=str(pruned_model),
        output_dir=str(tmp_path / "mood"),
        recipe_args="num_epochs=1,qat_start_epoch=0,observer_epoch=1",
        report_to="mlflow",
    )
    (run,) = runs()
    (logged,) = mlflow.search_logged_models(["0"], output_format="list")
    assert logged.source_run_id == run.info.run_id and logged.name == "deployment"
    texts = ["a lovely film", "a dull song"]
    expected = Pipeline.create(model_path=tmp_path / "mood" / "deployment")(texts)
    found = mlflow.pyfunc.load_model(logged.model_uri).predict(texts)
    assert list(found["predicted_label"]) == expected.labels
    assert flavour.load_model(logged.model_uri)(texts) == expected


def test_a_run_that_is_open_stays_open(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        tiny.train(pruned_model, rows_folder, tmp_path / "out", report_to="mlflow")
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert [each.info.run_id for each in runs()] == [run.info.run_id]


def test_a_training_that_fails_is_a_run_that_failed(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("sparseml.training.run.prepare", broken)
    with pytest.raises(RuntimeError, match="broken"):
        tiny.train(pruned_model, rows_folder, tmp_path / "out", report_to="mlflow")
    assert [run.info.status for run in runs()] == ["FAILED"]


def test_a_store_that_cannot_be_used_is_said(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    mlflow.set_tracking_uri("nothing://here")
    with pytest.raises(UserError, match="MLflow cannot be used"):
        tiny.train(pruned_model, rows_folder, tmp_path / "out", report_to="mlflow")
