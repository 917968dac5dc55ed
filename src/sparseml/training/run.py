"""The one runner of all training commands: parse, prepare, train, evaluate, predict, report. It asks the task."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from transformers import PrinterCallback, TrainerCallback, set_seed
from transformers import ProgressCallback as TqdmCallback

from resparse.arrays import Array
from resparse.console import console, output, say, silent, warn
from resparse.files import whole_file, write_json
from sparseml import report as reports
from sparseml.data.long_texts import has_windows
from sparseml.distillation.logits import add_teacher
from sparseml.distillation.teacher import DISABLED
from sparseml.fingerprint import Fingerprint, fingerprint
from sparseml.guided.choices import finished, fit, resumable
from sparseml.options.groups import TrainingArguments
from sparseml.options.table import ArgumentError
from sparseml.processes import summed_by_name, wait_for_all
from sparseml.recipe import load_plan
from sparseml.session import checkpoint
from sparseml.session.early_stopping import EARLY_STOP, early_stopping
from sparseml.session.models import Source, starting_point
from sparseml.session.progress import ProgressCallback
from sparseml.session.sampling import by_length
from sparseml.session.stopping import StopCallback
from sparseml.session.trainer import RecipeTrainer
from sparseml.tasks.base import Task
from sparseml.training import classifier_start, long_texts
from sparseml.training.arguments import Arguments, parse
from sparseml.training.calibration import calibrate
from sparseml.training.card import write_card
from sparseml.training.conclusion import conclude
from sparseml.training.mlflow_run import log_result, open_run
from sparseml.training.output_folder import OutputFolder, look_into, warn_of_older_deployment
from sparseml.training.prepare import Prepared, encoded, prepare, start_of
from sparseml.training.samples import write_samples
from sparsezoo.hub_upload import address

_UNREPORTED: Final = ("runtime", "preparation_time", "per_second", "total_flos", "epoch", "compilation")


def main(task: Task, /, argv: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
    """Train, evaluate and predict as the arguments say.

    Args:
        task: what the model learns to do.
        argv: flags; by default those of the process, unless keywords are given.
        kwargs: arguments by name.

    Returns:
        The report, as in `report.json`.

    Raises:
        UserError: something that the user can mend.
    """
    return run(parse(task, argv, **kwargs))


def run(arguments: Arguments) -> dict[str, Any]:
    """Carry out parsed arguments; returns the report."""
    guided, training = arguments.guided, arguments.training
    with silent(training.process_index > 0), resumable(guided):
        if guided is not None and (done := finished(guided)) is not None:
            return done
        with open_run(training):
            for note in arguments.notes:
                say(note)
            return _run(arguments)


def _run(arguments: Arguments) -> dict[str, Any]:
    training, guided = arguments.training, arguments.guided
    source = start_of(arguments)
    output = look_into(arguments, _made_of(arguments, source))
    wait_for_all()  # all look before one changes anything
    set_seed(training.seed)
    prepared = prepare(arguments, source)
    taught = classifier_start.choose(arguments, prepared)
    if guided is not None:
        fit(guided, training, arguments.data, prepared, taught)
    rows = encoded(arguments, prepared)
    read = long_texts.read(arguments.data, rows, prepared.tokenizer)
    if output is None or output.resume is None:
        classifier_start.begin(arguments, prepared, rows.get("train"))
    trainer = _trainer(arguments, prepared, rows)
    metrics: dict[str, Any] = {}
    evaluations: dict[str, Any] = {}
    early_stop: dict[str, Any] | None = None
    if training.do_train:
        assert output is not None
        _add_teacher(arguments, trainer, prepared, rows)
        trainer.add_callback(_BeginsFolder(output))
        stopping = early_stopping(training, trainer.not_yet_final)
        if stopping is not None:
            trainer.add_callback(stopping)
        for callback in arguments.callbacks:
            trainer.add_callback(callback)
        metrics |= _train(trainer, output.resume)
        early_stop = stopping.stopped if stopping is not None else None
    elif arguments.data.one_shot:
        assert trainer.session is not None and output is not None
        trainer.session.apply_once()
        _begin(output, training)
        trainer.save_model(_internal_call=True)
    fitted = calibrate(arguments, trainer, prepared, rows) if arguments.learns else None
    if training.do_eval:
        metrics |= _evaluate(trainer, prepared, rows, evaluations)
    if training.do_predict:
        metrics |= _predict(trainer, prepared, rows, evaluations)
    if arguments.data.num_export_samples and training.should_save:
        samples = next(rows[name] for name in ("validation", "test", "train") if name in rows)
        write_samples(trainer, prepared.task, samples, arguments.data.num_export_samples)
    report = _report(arguments, trainer, prepared, metrics, evaluations, fitted, read, early_stop)
    if guided is not None and guided.concludes and training.should_save:
        report = conclude(arguments, prepared, report)
    log_result(training, prepared, report)
    if training.push_to_hub and arguments.learns:
        trainer.push_to_hub()
        if trainer.is_world_process_zero():
            say(f"pushed: {address(trainer.hub_repo)}")
    return report


def _made_of(arguments: Arguments, source: Source) -> Fingerprint:
    if arguments.guided is not None:
        return arguments.guided.folder.made_of
    return fingerprint(arguments.values, arguments.defaults, source.folder, arguments.task.cuts_whole_batches)


def _begin(output: OutputFolder, training: TrainingArguments) -> None:
    """Make the output folder this run's; one process does, and the others wait."""
    if training.should_save:
        output.begin()
    wait_for_all()


class _BeginsFolder(TrainerCallback):
    """Makes the output folder the run's when nothing that is read from a checkpoint can fail any more."""

    def __init__(self, output: OutputFolder) -> None:
        self._output = output

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        _begin(self._output, args)


def _trainer(arguments: Arguments, prepared: Prepared, rows: dict[str, Any]) -> RecipeTrainer:
    training, task, model = arguments.training, prepared.task, prepared.loaded.model
    plan = load_plan(training.recipe, training.recipe_args) if arguments.learns and training.recipe else None
    base = starting_point(model, prepared.source.folder, plan)
    training.remove_unused_columns = False  # the collator takes what the model needs
    half = training.bf16 or training.fp16
    validation = by_length(rows["validation"])[0] if "validation" in rows else None
    trainer = RecipeTrainer(
        model=model,
        args=training,
        recipe=plan,
        base=base,
        allow_dense_start=training.allow_dense_start,
        distance=partial(task.distance, config=model.config),
        task_loss=task.loss(prepared.data, prepared.labels, arguments.data) if arguments.learns else None,
        has_no_loss=task.has_no_loss(model.config),
        evaluation=task.evaluate,
        pooling=getattr(arguments.data, "window_pooling", None) or "mean",
        train_dataset=rows.get("train"),
        eval_dataset=validation,
        processing_class=prepared.tokenizer,
        data_collator=task.collate(prepared.tokenizer, prepared.labels, multiple_of=8 if half else None),
        compute_metrics=_metrics(prepared, validation),
    )
    for callback in (PrinterCallback, TqdmCallback):
        trainer.remove_callback(callback)
    if not training.disable_tqdm:
        trainer.add_callback(ProgressCallback(trainer.session))
    if trainer.session is not None:
        for note in trainer.session.run.notes:
            say(note)
        if training.distill_teacher in (None, DISABLED):
            trainer.session.rest_without_teacher()
        _print_schedule(trainer)
        if training.distill_teacher not in (None, DISABLED) and not trainer.session.needs_teacher:
            warn("--distill_teacher is not used: the recipe has no DistillationModifier.")
    return trainer


def _metrics(prepared: Prepared, rows: Any) -> Callable[[Any], dict[str, float]] | None:
    """The task's metrics on encoded rows; None where it evaluates in its own way."""
    whole = getattr(rows, "whole_batches", False)
    return None if whole else prepared.task.metrics(prepared.data, prepared.labels, rows)


def _add_teacher(
    arguments: Arguments, trainer: RecipeTrainer, prepared: Prepared, rows: dict[str, Any]
) -> None:
    task, data, labels = prepared.task, prepared.data, prepared.labels
    add_teacher(
        trainer,
        arguments.training.distill_teacher,
        rows["train"],
        labels,
        prepared.tokenizer,
        encode=lambda tokenizer: task.encode(data.train, data, tokenizer, arguments.data),
        collate=lambda tokenizer: task.collate(tokenizer, labels),
        model_class=task.model_class,
        token=arguments.model.token,
        cache_dir=arguments.model.cache_dir,
        own_tokenizer=arguments.model.use_teacher_tokenizer,
        on_every_batch=not task.one_output_a_row,
        new=prepared.loaded.new,
        pooling=getattr(arguments.data, "window_pooling", None) or "mean",
    )
    session = trainer.session
    if task.has_no_loss(trainer.model.config) and (session is None or session.run.teacher is None):
        raise ArgumentError(
            f"{prepared.source.called} has no head for this task, so it has nothing to learn from the text alone: give "
            "a recipe with a PerLayerDistillationModifier and a --distill_teacher (self is the model as it is now), or "
            "a model with a head. `sparseml sparsify` chooses both."
        )


def _print_schedule(trainer: RecipeTrainer) -> None:
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


def _train(trainer: RecipeTrainer, resume: Path | None) -> dict[str, Any]:
    """Train, and save the model whole; returns the training's metrics."""
    stop = StopCallback()
    trainer.add_callback(stop)
    try:
        result = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finally:
        stop.release()
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, ProgressCallback):
                callback.stop()  # an error is not to be printed into a bar
    stop.leave(Path(trainer.args.output_dir))
    trainer.save_model(_internal_call=True)  # pushed at the end of the run, with its report
    folder = Path(trainer.args.output_dir)
    if trainer.args.should_save:
        with whole_file(folder / checkpoint.TRAINER_STATE_FILE) as temporary:
            trainer.state.save_to_json(str(temporary))
    metrics = {key: value for key, value in result.metrics.items() if key != "total_flos"}
    # The Trainer's is of this process's batches.
    shared = summed_by_name({"train_loss": metrics["train_loss"]}, trainer.args.device)
    metrics["train_loss"] = shared["train_loss"] / trainer.args.world_size
    return _save_metrics(trainer, "train", metrics)


def _recording(
    prepared: Prepared, rows: Any, split: str, evaluations: dict[str, Any], folder: Path | None = None
) -> Callable[[Any], dict[str, float]] | None:
    """As `_metrics`; what the same outputs say beyond them is put into `evaluations`, and into a folder."""
    metrics = _metrics(prepared, rows)
    if metrics is None:
        return None

    def compute(evaluated: Any) -> dict[str, float]:
        outputs = evaluated.predictions
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        outputs = outputs[: len(prepared.task.output_names)]
        task, data = prepared.task, prepared.data
        found = task.evaluation(outputs, evaluated.label_ids, prepared.labels, data, rows)
        if folder is not None:
            task.write_evaluation(folder, outputs, data, rows)
        if found is not None:
            evaluations[split] = found
        return metrics(evaluated)

    return compute


def _evaluate(
    trainer: RecipeTrainer, prepared: Prepared, rows: dict[str, Any], evaluations: dict[str, Any]
) -> dict[str, Any]:
    """Score the validation rows; MNLI's second set too, its metrics ending in `_mm`."""
    metrics: dict[str, Any] = {}
    for split, suffix in (("validation", ""), ("validation_mismatched", "_mm")):
        if split not in rows:
            continue
        sorted_rows, _ = by_length(rows[split])
        folder = Path(trainer.args.output_dir) if trainer.args.should_save else None
        trainer.compute_metrics = _recording(prepared, sorted_rows, split, evaluations, folder)
        found = trainer.evaluate(sorted_rows)
        metrics |= {
            f"{key}{suffix}": value for key, value in found.items() if not (suffix and key == "epoch")
        }
    return _save_metrics(trainer, "eval", metrics)


def _predict(
    trainer: RecipeTrainer, prepared: Prepared, rows: dict[str, Any], evaluations: dict[str, Any]
) -> dict[str, Any]:
    """Write the task's predictions for every test row; returns metrics where the rows are labelled."""
    folder, task_name = Path(trainer.args.output_dir), prepared.data.task_name
    stem = f"predict_results_{task_name}" if task_name else "predict_results"
    metrics: dict[str, Any] = {}
    for split, suffix in (("test", ""), ("test_mismatched", "-mm")):
        if split not in rows:
            continue
        sorted_rows, order = by_length(rows[split])
        trainer.compute_metrics = _recording(prepared, sorted_rows, split, evaluations)
        result = trainer.predict(sorted_rows, metric_key_prefix="predict")
        if has_windows(sorted_rows):
            order = np.arange(prepared.data.rows[split])  # predictions are of texts, in their order
        outputs = _in_order(result.predictions, order, len(prepared.task.output_names))
        if trainer.args.should_save:
            path = prepared.task.write_predictions(
                folder / f"{stem}{suffix}", outputs, prepared.data, prepared.labels, rows[split]
            )
            say(f"predictions of {prepared.data.rows[split]:,} rows: {path}")
        metrics |= {f"{key}{suffix.replace('-', '_')}": value for key, value in result.metrics.items()}
    return _save_metrics(trainer, "predict", metrics)


def _in_order(predictions: Any, order: Array, count: int) -> tuple[Array, ...]:
    """The first `count` outputs for rows that were sorted by `order`, in the rows' own order."""
    outputs = predictions[:count] if isinstance(predictions, tuple) else (predictions,)
    return tuple(np.asarray(output)[np.argsort(order)] for output in outputs)


def _report(
    arguments: Arguments,
    trainer: RecipeTrainer,
    prepared: Prepared,
    metrics: dict[str, Any],
    evaluations: dict[str, Any],
    fitted: dict[str, Any] | None,
    read: dict[str, Any],
    early_stop: dict[str, Any] | None,
) -> dict[str, Any]:
    """Build the report, write it to `report.json` after a training, and print its main lines (but in a guided run)."""
    folder, labels = trainer.args.output_dir, prepared.labels
    result = reports.build(
        trainer.model,
        metrics,
        arguments.command,
        arguments.training.recipe,
        start=prepared.source.called,
        data={
            "name": prepared.data.name,
            **({} if labels is None else {"labels": list(labels.names), "kind": labels.kind}),
            "rows": prepared.data.rows,
            **read,
        },
        seed=arguments.training.seed,
        **({"evaluation": evaluations} if evaluations else {}),
        **({"calibration": fitted} if fitted else {}),
        **({EARLY_STOP: early_stop} if early_stop else {}),
    )
    # The report of a mere evaluation must not replace the training's.
    if arguments.learns and trainer.args.should_save:
        write_json(Path(folder) / "report.json", result)
        write_card(arguments, prepared, result)
        if arguments.guided is None:
            warn_of_older_deployment(Path(folder))
    if arguments.guided is None:
        output.print(reports.table(result))
        say(f"model: {folder}")
    return result


def _save_metrics(trainer: RecipeTrainer, split: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Write a split's metrics; returns those that the report has."""
    diverged = [
        key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)
    ]
    if diverged:
        warn(f"{', '.join(diverged)}: not a finite number. Training diverged: try a lower learning rate.")
    # JSON has no word for what is not finite.
    finite = {key: None if key in diverged else value for key, value in metrics.items()}
    if trainer.args.should_save:
        write_json(Path(trainer.args.output_dir) / f"{split}_results.json", finite)
    return {key: value for key, value in finite.items() if not any(word in key for word in _UNREPORTED)}
