"""Arguments checked against each other and against what is possible, before anything heavy begins."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from resparse import thresholds
from resparse.errors import did_you_mean, nearest
from sparseml.data.known_datasets import find_benchmark_task
from sparseml.data.readers import READERS
from sparseml.options import decision_rules
from sparseml.options.table import ArgumentError, Option

_FILE_ARGUMENTS: Final = ("train_file", "validation_file", "test_file")

_AT_LEAST: Final[Mapping[str, float]] = {
    **dict.fromkeys(("max_seq_length", "preprocessing_num_workers", "max_train_samples"), 1),
    **dict.fromkeys(("max_eval_samples", "max_predict_samples"), 1),
    "num_export_samples": 0,
    "window_stride": 0,
    "max_windows": 1,
    "contrastive_steps": 0,
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), 1),
    "gradient_accumulation_steps": 1,
    **dict.fromkeys(("learning_rate", "weight_decay", "num_train_epochs", "warmup_steps"), 0),
    **dict.fromkeys(("max_grad_norm", "seed", "data_seed", "dataloader_num_workers"), 0),
    **dict.fromkeys(("save_total_limit", "best_model_after_epoch"), 0),
}


def normalise(values: dict[str, Any]) -> None:
    """Normalize the names of tasks and columns, in place; a DataError where there is no such task."""
    if values.get("task_name") is not None:
        values["task_name"], _ = find_benchmark_task(values["task_name"])
    if isinstance(values.get(thresholds.KEY), str):
        values[thresholds.KEY] = values[thresholds.KEY].lower()
    if values.get("input_column_names") is not None:
        names = values["input_column_names"].split(",")
        values["input_column_names"] = ",".join(name.strip() for name in names)


def check(
    values: Mapping[str, Any],
    options: Mapping[str, Option],
    holds_out: bool = False,
    endings: Collection[str] = tuple(READERS),
) -> None:
    """Raise an ArgumentError for the first contradiction.

    Args:
        holds_out: evaluation rows will be held out.
        endings: of data files.
    """
    for name, least in _AT_LEAST.items():
        value = values.get(name)
        if value is not None and value < least:
            raise ArgumentError(f"--{name} {value:g}: it must be at least {least:g}.")
    decision_rules.check(values, holds_out)
    _check_windows(values)
    _check_work(values)
    _check_source(values, holds_out, endings)
    _check_columns(values)
    _check_validation(values)
    _check_recipe_and_precision(values)
    _check_trackers(values, options)


def _check_windows(values: Mapping[str, Any]) -> None:
    if values.get("long_texts") == "windows" and values.get("pad_to_max_length"):
        raise ArgumentError(
            "--pad_to_max_length pads texts, and --long_texts windows cuts them: leave one of the two out."
        )


def _check_work(values: Mapping[str, Any]) -> None:
    if not any(values.get(name) for name in ("do_train", "do_eval", "do_predict", "one_shot")):
        raise ArgumentError(
            "Nothing to do: give --do_train, --do_eval, --do_predict or --one_shot; or none of them and a "
            "--train_file, and all of it is done."
        )
    if values.get("output_dir") is None:
        raise ArgumentError(
            "--output_dir is missing: name the folder for the model and its report; or leave out --do_train, --do_eval "
            "and --do_predict, and all is chosen."
        )
    if values.get("one_shot") and values.get("do_train"):
        raise ArgumentError("--one_shot applies the recipe without training: it cannot go with --do_train.")
    if values.get("one_shot") and values.get("recipe") is None:
        raise ArgumentError("--one_shot needs a --recipe to apply.")


def _check_source(values: Mapping[str, Any], holds_out: bool, endings: Collection[str]) -> None:
    task, dataset = values.get("task_name"), values.get("dataset_name")
    files = [name for name in _FILE_ARGUMENTS if values.get(name) is not None]
    if dataset is not None:
        # A task may be read from the user's files, a dataset of the Hub may not.
        for other in ("task_name", *files):
            if values.get(other) is not None:
                raise ArgumentError(
                    f"--dataset_name and --{other} each say where the data come from: leave one out."
                )
    elif values.get("dataset_config_name") is not None:
        raise ArgumentError("--dataset_config_name names a subset of a --dataset_name, but there is none.")
    elif task is None and not files:
        raise ArgumentError(
            "No data: give --task_name (GLUE), --dataset_name (a dataset of the Hub), "
            "or --train_file (local rows, with --validation_file or --validation_ratio)."
        )
    elif task is None:
        _check_rows(values, holds_out)
    for name in files:
        _check_ending(name, values[name], endings)


def _check_rows(values: Mapping[str, Any], holds_out: bool) -> None:
    """Given files alone, every step needs its rows."""
    if values.get("do_train") and values.get("train_file") is None:
        raise ArgumentError("--do_train needs rows to train on: give --train_file.")
    if values.get("do_predict") and values.get("test_file") is None:
        raise ArgumentError("--do_predict needs rows to predict: give --test_file.")
    if holds_out or (not values.get("do_eval") and values.get("eval_strategy", "no") == "no"):
        return
    if values.get("eval_on_test"):
        if values.get("test_file") is None:
            raise ArgumentError("--eval_on_test needs rows to evaluate: give --test_file.")
    elif values.get("validation_file") is None and None in (
        values.get("validation_ratio"),
        values.get("train_file"),
    ):
        raise ArgumentError(
            "Evaluating needs rows: give --validation_file, --validation_ratio (a part of --train_file), "
            "or --test_file with --eval_on_test."
        )


def _check_ending(name: str, pattern: str, endings: Collection[str]) -> None:
    """Refuse an ending that no reader has; patterns and folders are checked when they are read."""
    for part in pattern.split(","):
        ending = Path(part.strip()).suffix.lower()
        if re.fullmatch(r"\.\w+", ending) and ending not in endings:
            close = nearest(ending, endings, most=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ArgumentError(
                f"--{name} {pattern}: the ending says which format it is, and must be one of "
                f"{', '.join(endings)}.{hint}"
            )


def _check_columns(values: Mapping[str, Any]) -> None:
    columns = values.get("input_column_names")
    if columns is None:
        return
    names = columns.split(",")
    if len(names) > 2 or not all(names):
        raise ArgumentError(
            f"--input_column_names {columns!r}: give one column, or exactly two separated by a comma "
            "(such as sentence_A,sentence_B)."
        )
    if len(set(names)) < len(names):
        raise ArgumentError(f"--input_column_names {columns!r} names the same column twice.")
    if values.get("label_column_name", "label") in names:
        raise ArgumentError(
            f"--input_column_names {columns!r} contains the label column: it would give the answer away."
        )


def _check_validation(values: Mapping[str, Any]) -> None:
    ratio = values.get("validation_ratio")
    if ratio is not None and not 0 < ratio < 1:
        raise ArgumentError(
            f"--validation_ratio {ratio:g}: it is a part of the training rows, between 0 and 1."
        )
    if ratio is not None and values.get("validation_file") is not None:
        raise ArgumentError(
            "--validation_ratio and --validation_file both say what to validate on: leave one out."
        )
    if ratio is not None and values.get("eval_on_test"):
        raise ArgumentError(
            "--validation_ratio and --eval_on_test both say what to evaluate on: leave one out."
        )


def _check_recipe_and_precision(values: Mapping[str, Any]) -> None:
    if values.get("recipe") is None and values.get("recipe_args") is not None:
        raise ArgumentError("--recipe_args sets variables of a recipe, but there is no --recipe.")
    for suffix in ("", "_full_eval"):
        if values.get("fp16" + suffix) and values.get("bf16" + suffix):
            raise ArgumentError(
                f"--fp16{suffix} and --bf16{suffix} are two answers to one question: leave one out."
            )


def _check_trackers(values: Mapping[str, Any], options: Mapping[str, Option]) -> None:
    requested = values.get("report_to", options["report_to"].default)
    trackers = [requested] if isinstance(requested, str) else requested or []
    if set(trackers) <= {"none", "all"}:
        return
    from transformers.integrations import INTEGRATION_TO_CALLBACK

    for tracker in trackers:
        if tracker not in INTEGRATION_TO_CALLBACK:
            hint = did_you_mean(tracker, ["none", *INTEGRATION_TO_CALLBACK])
            raise ArgumentError(f"--report_to {tracker!r}: no such tracker. {hint}")
    if "mlflow" in trackers and find_spec("mlflow") is None:
        raise ArgumentError("--report_to mlflow needs MLflow: pip install 'resparse[mlflow]'.")
