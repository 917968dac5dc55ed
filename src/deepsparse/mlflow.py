"""A deployment as an MLflow model: saved, logged, and loaded as any model of `mlflow.pyfunc`, without PyTorch.

    import deepsparse.mlflow

    with mlflow.start_run():
        logged = deepsparse.mlflow.log_model("deployment/", name="classifier")
    mlflow.pyfunc.load_model(logged.model_uri).predict(["what a lovely film"])

The model holds a copy of the deployment folder, and names this module as its loader: nothing is pickled. Needs
`resparse[mlflow]`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of MLflow's own type hints
    import mlflow
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

from deepsparse.deployment import MODEL, Deployment, open_deployment
from deepsparse.errors import ModelError
from deepsparse.hardware import usable_cores
from deepsparse.pipeline import Pipeline
from deepsparse.scorer import Scorer
from resparse import __version__

FLAVOR: Final = "deepsparse"
"""The flavour's name in the file `MLmodel`."""

_TYPES: Final = {"string": "string", "double": "double", "bigint": "long"}
_NOT_SETTINGS: Final = ("threads", "columns")


def save_model(
    deployment: str | Path | Deployment,
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    mlflow_model: Model | None = None,
    pip_requirements: Sequence[str] | str | None = None,
    extra_pip_requirements: Sequence[str] | str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Save a deployment as an MLflow model in a new folder.

    Args:
        deployment: see `open_deployment`.
        path: the folder.
        columns: of the tables that it is given, those that make a row: one, or two of a model of pairs. None: one
            column of texts, of any name; or those of the task, such as question and context.
        settings: keywords of `Pipeline.create` for whoever loads it, and `threads`; `mlflow.pyfunc.load_model` takes
            others as `model_config`.
        mlflow_model, pip_requirements, extra_pip_requirements, metadata: see `mlflow.pyfunc.save_model`.

    Raises:
        ModelError, EngineError: the deployment does not answer; see `Pipeline.create`.
    """
    opened = open_deployment(deployment)
    if opened.model.name != MODEL:
        raise ModelError(
            f"An MLflow model holds a deployment folder with {MODEL}; this is {opened.model.name}."
        )
    config = {**(settings or {}), **({"columns": list(columns)} if columns is not None else {})}
    scorer = _scorer(opened.folder, config)
    task = scorer.pipeline.handler
    model = mlflow_model if mlflow_model is not None else Model()
    model.add_flavor(FLAVOR, task=task.name, data=f"data/{opened.folder.name}", version=__version__)
    signature, example = _signature(scorer, columns)
    given = pip_requirements is not None
    mlflow.pyfunc.save_model(
        path=str(path),
        loader_module=__name__,
        data_path=str(opened.folder),
        mlflow_model=model,
        signature=signature,
        input_example=example,
        # Named, since MLflow would find them out by loading the model in another process.
        pip_requirements=pip_requirements if given else [f"resparse[mlflow]=={__version__}"],
        extra_pip_requirements=extra_pip_requirements,
        model_config=config or None,
        metadata=dict(metadata) if metadata is not None else None,
    )


def log_model(
    deployment: str | Path | Deployment,
    name: str,
    *,
    registered_model_name: str | None = None,
    **more: Any,
) -> Any:
    """Log a deployment to the active run, which is started where there is none.

    Args:
        deployment: see `open_deployment`.
        name: of the model in the run.
        registered_model_name: enter it into the registry under this name, too.
        more: keywords of `save_model`.

    Returns:
        MLflow's `ModelInfo`; its `model_uri` is what `load_model` takes. Raises as `save_model`.
    """
    return Model.log(
        None,  # its place before MLflow 3, which the name has taken
        name=name,
        flavor=sys.modules[__name__],
        deployment=deployment,
        registered_model_name=registered_model_name,
        **more,
    )


def load_model(model_uri: str, dst_path: str | None = None, **settings: Any) -> Any:
    """The pipeline of a saved or logged model.

    Args:
        model_uri: "models:/NAME/1", "runs:/RUN/NAME", or a folder.
        dst_path: an existing folder to download it to.
        settings: keywords of `Pipeline.create`, in the place of those that it was saved with.

    Raises:
        ModelError: the model is of another flavour.
    """
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=dst_path))
    saved = Model.load(str(folder / "MLmodel"))
    if FLAVOR not in saved.flavors:
        raise ModelError(f"{model_uri} is no deployment: its flavours are {', '.join(saved.flavors)}.")
    config = saved.flavors["python_function"].get("config") or {}
    kept = {name: value for name, value in config.items() if name not in _NOT_SETTINGS}
    return Pipeline.create(model_path=folder / saved.flavors[FLAVOR]["data"], **{**kept, **settings})


class ScoringModel:
    """What `mlflow.pyfunc.load_model` runs: tables in, tables of predictions out."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A DataFrame of predictions for a DataFrame, or for a list of texts.

        A row that cannot be read has none, and the reason in `prediction_error`; see `Scorer`.

        Raises:
            TableError: the columns that make a row are not there.
        """
        import pandas as pd

        frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
        # Of a list MLflow makes a column that is called 0.
        frame = frame.rename(columns={name: str(name) for name in frame.columns if not isinstance(name, str)})
        wanted = self._scorer.find_columns(list(frame.columns))
        return pd.DataFrame(
            self._scorer.score({name: frame[name].tolist() for name in wanted}), index=frame.index
        )


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> ScoringModel:
    """Called by MLflow with the copy of the deployment folder."""
    scorer = _scorer(Path(path), model_config or {})
    _ = scorer.pipeline  # a model that does not answer is to be found out here
    return ScoringModel(scorer)


def _scorer(folder: Path, config: Mapping[str, Any]) -> Scorer:
    settings = {name: value for name, value in config.items() if name not in _NOT_SETTINGS}
    threads = config.get("threads") or usable_cores()
    return Scorer(folder, threads, columns=config.get("columns"), **settings)


def _signature(scorer: Scorer, columns: Sequence[str] | None) -> tuple[ModelSignature, Any]:
    """Columns in and out, and an input."""
    import pandas as pd

    task = scorer.pipeline.handler
    required = task.request["required"]
    if columns is None and len(required) > 1:
        columns = required
    if columns is None and len(trained := task.deployment.text_columns()) > 1:
        columns = trained
    if columns is None:
        inputs, example = Schema([ColSpec("string")]), pd.DataFrame(["What a day!"])
    else:
        inputs = Schema([ColSpec("string", name) for name in columns])
        texts = [task.example.get(name, "What a day!") for name in columns]
        example = pd.DataFrame([texts], columns=list(columns))
    outputs = Schema([ColSpec(_TYPES[kind], name, required=False) for name, kind in scorer.fields.items()])
    return ModelSignature(inputs, outputs), example
