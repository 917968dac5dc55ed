"""What a run writes and says: schedule, scores, predictions, report."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resparse.console import console, output, say, warn
from resparse.files import whole_file, write_json
from sparseml import report as reports
from sparseml.data import Labels, TextData
from sparseml.metrics import decisions, probabilities
from sparseml.session import checkpoint
from sparseml.session.progress import ProgressCallback
from sparseml.session.sampling import by_length
from sparseml.session.trainer import RecipeTrainer
from sparseml.transformers.arguments import Arguments
from sparseml.transformers.preparation import Prepared

_UNWANTED = ("runtime", "per_second", "total_flos", "epoch", "compilation")


def print_schedule(trainer: RecipeTrainer) -> None:
    """The recipe's merged schedule, before training; and a warning where --max_steps cuts it short."""
    assert trainer.session is not None
    schedule = trainer.session.schedule
    clock = trainer.clock() if trainer.train_dataset is not None else None
    say(f"recipe {trainer.session.plan.source}")
    console.print(schedule.table(trainer.args.num_train_epochs, clock))
    if clock is not None and schedule.epochs is not None and clock.total_steps < clock.step(schedule.epochs):
        warn(
            f"--max_steps ends the training after step {clock.total_steps:,}, epoch "
            f"{clock.epoch(clock.total_steps):.2f} of the recipe's {schedule.epochs:g}."
        )


def train(trainer: RecipeTrainer, resume: Path | None) -> dict[str, Any]:
    """Train, and save the model whole; returns the training's metrics."""
    try:
        result = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, ProgressCallback):
                callback.stop()  # an error is not to be printed into a bar
    trainer.save_model()
    folder = Path(trainer.args.output_dir)
    with whole_file(folder / checkpoint.TRAINER_STATE_FILE) as temporary:
        trainer.state.save_to_json(str(temporary))
    metrics = {key: value for key, value in result.metrics.items() if key != "total_flos"}
    _save_metrics(folder, "train", metrics)
    return _wanted(metrics)


def evaluate(trainer: RecipeTrainer, rows: dict[str, Any]) -> dict[str, Any]:
    """Score the validation rows; MNLI's second set too, its metrics ending in `_mm`."""
    metrics = dict(trainer.evaluate(by_length(rows["validation"])[0]))
    if "validation_mismatched" in rows:
        second = trainer.evaluate(by_length(rows["validation_mismatched"])[0])
        metrics |= {f"{key}_mm": value for key, value in second.items() if key != "epoch"}
    _save_metrics(Path(trainer.args.output_dir), "eval", metrics)
    return _wanted(metrics)


def predict(trainer: RecipeTrainer, rows: dict[str, Any], data: TextData, labels: Labels) -> dict[str, Any]:
    """Write label and probabilities of every test row; returns metrics where the rows are labelled."""
    folder = Path(trainer.args.output_dir)
    stem = f"predict_results_{data.task_name}" if data.task_name else "predict_results"
    metrics: dict[str, Any] = {}
    for split, suffix in (("test", ""), ("test_mismatched", "-mm")):
        if split not in rows:
            continue
        sorted_rows, order = by_length(rows[split])
        result = trainer.predict(sorted_rows, metric_key_prefix="predict")
        logits = np.empty_like(_logits(result.predictions))
        logits[order] = _logits(result.predictions)
        path = folder / f"{stem}{suffix}.txt"
        write_predictions(path, logits, labels)
        say(f"predictions of {len(rows[split]):,} rows: {path}")
        metrics |= {f"{key}{suffix.replace('-', '_')}": value for key, value in result.metrics.items()}
    _save_metrics(folder, "predict", metrics)
    return _wanted(metrics)


def write_predictions(path: Path, logits: np.ndarray[Any, Any], labels: Labels) -> None:
    """A tab-separated file: index, prediction, and a column of probability for each class.

    Several labels of one row are joined by commas; a score is written as it is. What counts as predicted is what
    the metrics count.
    """
    shares, decided = probabilities(logits, labels.kind), decisions(logits, labels.kind)
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if labels.kind == "regression":
            writer.writerow(["index", "prediction"])
            writer.writerows([index, f"{score:.6g}"] for index, score in enumerate(shares.reshape(-1)))
            return
        writer.writerow(["index", "prediction", *(f"probability_{name}" for name in labels.names)])
        for index, (row, chosen) in enumerate(zip(shares, decided, strict=True)):
            writer.writerow([index, _prediction(chosen, labels), *(f"{share:.6f}" for share in row)])


def report(
    arguments: Arguments,
    trainer: RecipeTrainer,
    prepared: Prepared,
    metrics: dict[str, Any],
    show: bool = True,
) -> dict[str, Any]:
    """Build the report, write it to `report.json` after a training, and print its main lines where they are to show."""
    folder = trainer.args.output_dir
    result = reports.build(
        trainer.model,
        metrics,
        arguments.command,
        arguments.training.recipe,
        start=prepared.source.called,
        data={
            "name": prepared.data.name,
            "labels": list(prepared.labels.names),
            "kind": prepared.labels.kind,
            "rows": prepared.data.rows,
        },
        seed=arguments.training.seed,
    )
    if arguments.learns:
        write_json(
            Path(folder) / "report.json", result
        )  # that of a mere evaluation must not replace a training's
    if show:
        output.print(reports.table(result))
        say(f"model: {folder}")
    return result


def calibrate(trainer: RecipeTrainer) -> None:
    """In place of training: apply the recipe once."""
    assert trainer.session is not None
    trainer.session.apply_once()
    trainer.save_model()


def export_samples(trainer: RecipeTrainer, rows: Any, count: int) -> None:
    """Write the first rows as the model takes them and what it answers: numpy files, one row each."""
    folder = Path(trainer.args.output_dir)
    trainer.model.eval()
    for index in range(min(count, len(rows))):
        batch = trainer.data_collator([rows[index]])
        batch.pop("labels", None)
        with torch.no_grad():
            answer = trainer.model(**{key: value.to(trainer.args.device) for key, value in batch.items()})
        inputs = {key: value.cpu().numpy() for key, value in batch.items()}
        for kind, stem, arrays in (
            ("sample-inputs", "inp", inputs),
            ("sample-outputs", "out", {"logits": answer["logits"].cpu().numpy()}),
        ):
            with (
                whole_file(folder / kind / f"{stem}-{index:04d}.npz") as temporary,
                temporary.open("wb") as file,
            ):
                np.savez(file, **arrays)


def _logits(predictions: Any) -> np.ndarray[Any, Any]:
    return np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions)


def _prediction(chosen: Any, labels: Labels) -> str:
    """The name of a class id, or those of a row of zeros and ones."""
    if labels.kind == "multi_label_classification":
        return ",".join(name for name, flag in zip(labels.names, chosen, strict=True) if flag)
    return labels.names[int(chosen)]


def _save_metrics(folder: Path, split: str, metrics: dict[str, Any]) -> None:
    diverged = [
        key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)
    ]
    if diverged:
        warn(f"{', '.join(diverged)}: not a finite number. Training diverged: try a lower learning rate.")
    write_json(folder / f"{split}_results.json", _finite(metrics))


def _wanted(metrics: dict[str, Any]) -> dict[str, Any]:
    wanted = {key: value for key, value in metrics.items() if not any(word in key for word in _UNWANTED)}
    return _finite(wanted)


def _finite(metrics: dict[str, Any]) -> dict[str, Any]:
    """With None in the place of what JSON has no word for."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in metrics.items()
    }
