"""Deployments as MLflow models: saved, logged, loaded as any pyfunc model; against the pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'resparse[mlflow]'")
pytest.importorskip("pandas")

import mlflow
import pandas as pd

import deepsparse.mlflow as flavour
from deepsparse import Pipeline, Scorer
from deepsparse.errors import ModelError
from resparse.errors import UserError

# MLflow's own modules, and its store of files, warn of their own future.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
]


TEXTS = ["happy", "sad film", "furious"]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield tmp_path
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def pipeline(deployed: Path) -> Any:
    return Pipeline.create(model_path=deployed)


@pytest.fixture(scope="module")
def saved(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "model"
    flavour.save_model(deployed, folder)
    return folder


@pytest.mark.parametrize("given", [TEXTS, pd.DataFrame({"anything": TEXTS}, index=[7, 8, 9])])
def test_the_predictions_are_the_pipelines(saved: Path, pipeline: Any, given: Any) -> None:
    found = mlflow.pyfunc.load_model(str(saved)).predict(given)
    expected = pipeline(TEXTS)
    assert list(found["predicted_label"]) == expected.labels
    assert list(found["predicted_score"]) == pytest.approx(expected.scores)
    assert found["prediction_error"].isna().all()
    assert list(found.index) == (list(given.index) if isinstance(given, pd.DataFrame) else [0, 1, 2])


def test_a_bad_row_has_a_reason_and_no_prediction(saved: Path) -> None:
    found = mlflow.pyfunc.load_model(str(saved)).predict(["happy", ""])
    assert list(found["prediction_error"].isna()) == [True, False]
    assert found["predicted_label"].isna()[1]


def test_pairs_by_their_columns(deployed: Path, tmp_path: Path, pipeline: Any) -> None:
    flavour.save_model(deployed, tmp_path / "model", columns=["premise", "claim"])
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert model.metadata.get_input_schema().input_names() == ["premise", "claim"]
    frame = pd.DataFrame({"claim": ["very", "film"], "id": [1, 2], "premise": ["happy", "sad"]})
    assert (
        list(model.predict(frame)["predicted_label"]) == pipeline([["happy", "very"], ["sad", "film"]]).labels
    )


def test_what_a_row_is_follows_from_the_task(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text has any name, be the field of a request called sequences or inputs; several have their own."""
    for required, names in (
        (["sequences"], []),
        (["inputs"], []),
        (["question", "context"], ["question", "context"]),
    ):
        monkeypatch.setattr(type(pipeline.handler), "request", {"required": required})
        signature, example = flavour._signature(Scorer(pipeline.model_path.parent), None)
        assert [spec.name for spec in signature.inputs] == (names or [None]) and example.shape == (
            1,
            len(required),
        )


def test_settings_are_kept_and_may_be_others(deployed: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    flavour.save_model(deployed, folder, settings={"min_score": 0.9999})
    assert mlflow.pyfunc.load_model(folder).predict(["happy"])["predicted_label"].isna().all()
    assert flavour.load_model(folder)("happy").labels == [None]
    assert flavour.load_model(folder, min_score=0.0)("happy").labels == ["joy"]
    other = mlflow.pyfunc.load_model(folder, model_config={"min_score": 0.0})
    assert list(other.predict(["happy"])["predicted_label"]) == ["joy"]


def test_logged_to_a_run(deployed: Path, pipeline: Any) -> None:
    with mlflow.start_run():
        logged = flavour.log_model(deployed, "classifier", metadata={"of": "a test"})
    found = mlflow.pyfunc.load_model(logged.model_uri)
    assert list(found.predict(TEXTS)["predicted_label"]) == pipeline(TEXTS).labels
    assert flavour.load_model(logged.model_uri)(TEXTS) == pipeline(TEXTS)
    assert logged.metadata == {"of": "a test"}
    assert logged.flavors["deepsparse"]["task"] == "text_classification"
    requirements = mlflow.pyfunc.get_model_dependencies(logged.model_uri)
    assert "resparse[mlflow]==" in Path(requirements).read_text()


def test_scored_without_torch(saved: Path) -> None:
    """In a process of its own, as MLflow's server does."""
    program = (
        "import json, sys, mlflow; model = mlflow.pyfunc.load_model(sys.argv[1]);"
        "labels = list(model.predict(['happy', 'sad'])['predicted_label']);"
        "print(json.dumps([labels, [name for name in ('torch', 'sparseml', 'transformers') if name in sys.modules]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(saved)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [["joy", "sadness"], []]


def test_what_cannot_be_saved_or_loaded(deployed: Path, tmp_path: Path) -> None:
    class Other(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):  # type: ignore[no-untyped-def]
            return model_input

    mlflow.pyfunc.save_model(str(tmp_path / "other"), python_model=Other(), pip_requirements=[])
    with pytest.raises(ModelError, match="is no deployment: its flavours are python_function"):
        flavour.load_model(str(tmp_path / "other"))
    with pytest.raises(UserError, match="There is no"):
        flavour.save_model(tmp_path / "nothing", tmp_path / "model")
    (tmp_path / "named").mkdir()
    for path in deployed.iterdir():
        name = "mood.onnx" if path.name == "model.onnx" else path.name
        (tmp_path / "named" / name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match=r"this is mood\.onnx"):
        flavour.save_model(tmp_path / "named" / "mood.onnx", tmp_path / "model")
    assert not (tmp_path / "model").exists()
