"""A training as a run of MLflow (`--report_to mlflow`): from its start to its report, with what it made.

Transformers' own callback logs arguments and metrics. It ends its run with the training's last step, so that what
follows, the evaluation and the export, would begin another: here the run is open for all of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from resparse.console import say
from resparse.errors import UserError
from resparse.progress import waiting
from sparseml.options.groups import TrainingArguments
from sparseml.training.prepare import Prepared
from sparsezoo.hub_upload import PRIVATE, linked

MLFLOW: Final = "mlflow"
_CHECKPOINT: Final = "checkpoint"
_DEPLOYMENT: Final = "deployment"
_TOTALS: Final = ("parameters", "prunable_sparsity", "quantized_share", "compressed_bytes")


class TrackingError(UserError):
    """MLflow cannot be used, or does not answer."""


@contextmanager
def open_run(training: TrainingArguments) -> Iterator[None]:
    """A run for the block, where MLflow is asked for and none is open; failed, where the block fails.

    Raises:
        TrackingError: the tracking server does not answer.
    """
    if not _reports(training):
        yield
        return
    import mlflow

    if mlflow.active_run() is not None:
        yield
        return
    with _clear_errors():
        run = mlflow.start_run(run_name=training.run_name)
    with run:
        yield
        mlflow.flush_async_logging()
    say(f"MLflow: run {run.info.run_id} at {mlflow.get_tracking_uri()}")


def log_result(training: TrainingArguments, prepared: Prepared, report: Mapping[str, Any]) -> None:
    """Log what a finished training made: its totals, report and recipe, and the model.

    The model is the deployment, as `deepsparse.mlflow` logs it, where the training ended with an export; else the files
    of the training's folder.

    Raises:
        TrackingError: the tracking server does not take them. The folder has them all the same.
    """
    if not _reports(training):
        return
    import mlflow

    folder = Path(str(training.output_dir))
    with _clear_errors(folder), waiting("logging to MLflow"):
        totals = report.get("totals", {})
        mlflow.log_metrics({name: totals[name] for name in _TOTALS if name in totals})
        mlflow.set_tags({"resparse.task": prepared.task.name, "resparse.start": str(report.get("start", ""))})
        if "export" in report and (folder / _DEPLOYMENT).is_dir():
            import deepsparse.mlflow

            for name in ("report.json", "recipe.yaml"):
                if (folder / name).is_file():
                    mlflow.log_artifact(str(folder / name))
            columns = list(prepared.data.columns.texts)
            named = columns if len(columns) > 1 else None  # one column of texts may have any name
            deepsparse.mlflow.log_model(folder / _DEPLOYMENT, _DEPLOYMENT, columns=named)
        else:
            public = linked(folder, ignored=PRIVATE)
            try:
                mlflow.log_artifacts(str(public), _CHECKPOINT)
            finally:
                shutil.rmtree(public, ignore_errors=True)


def _reports(training: TrainingArguments) -> bool:
    return MLFLOW in (training.report_to or ()) and training.process_index == 0


@contextmanager
def _clear_errors(folder: Path | None = None) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    kept = "" if folder is None else f" The model is in {folder} all the same."
    try:
        yield
    except (MlflowException, OSError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TrackingError(f"MLflow cannot be used: {reason.rstrip('.')}.{kept}") from error
