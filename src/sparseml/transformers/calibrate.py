"""The command `sparseml calibrate`: what a deployed classifier decides by, fitted to labelled rows and kept with it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse import Pipeline
from deepsparse.command_line import Parser, normal_options
from deepsparse.deployment import Deployment, open_deployment
from deepsparse.errors import ModelError
from resparse.confidence import is_min_score
from resparse.console import aligned, output, say
from resparse.files import write_json
from resparse.threshold_search import VALIDATION
from sparseml.calibrate import TEMPERATURE, Fitted, entries, fit
from sparseml.data import DataOptions
from sparseml.data.label_encoding import MULTI, SINGLE, Labels
from sparseml.options.table import ArgumentError
from sparseml.selective import coverage_curve
from sparseml.tasks import load_task
from sparseml.tasks.text_classification import deployed_rows
from sparseml.transformers.eval_downstream import evaluated_length

_EXAMPLE = """\
for example:
  sparseml calibrate deployment/ --dataset validation.csv
  sparseml calibrate deployment/ --dataset validation.csv --min-score 0.6 --out-of-scope-label other"""


def main(words: Sequence[str]) -> int:
    """Fit, write config.json and report.json, and print what came of it."""
    arguments = _parser().parse_args(normal_options(words))
    _check(arguments)
    deployment = open_deployment(arguments.model)
    length = evaluated_length(arguments.max_sequence_length, deployment)
    pipeline = Pipeline.create(None, deployment, engine_type=arguments.engine, sequence_length=length)
    if pipeline.task != "text_classification":
        raise ModelError(f"{deployment.folder} is no text classifier: there is nothing to calibrate.")
    options = DataOptions(
        validation_file=arguments.dataset,
        input_column_names=arguments.input_column_names,
        label_column_name=arguments.label_column_name,
        needs_train=False,
    )
    logits, truth, labels = deployed_rows(load_task(pipeline.task), pipeline, options)
    pipeline.close()
    _check_kind(arguments, labels)
    if labels.kind == SINGLE:  # rows out of scope have no right answer among the logits
        known = truth < labels.num_labels
        logits, truth = logits[known], truth[known]
    found = fit(
        logits,
        truth,
        labels,
        temperature=arguments.calibration == TEMPERATURE,
        by_label=arguments.multi_label_threshold == VALIDATION,
    )
    for note in found.notes:
        say(note)
    _keep(deployment, found, arguments)
    if labels.kind == SINGLE:
        _show_coverage(coverage_curve(logits, truth, found.labels))
    say(f"kept in {deployment.config_file}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.min_score is not None and not is_min_score(arguments.min_score):
        raise ArgumentError(f"--min-score {arguments.min_score:g}: it is a probability, from 0 to below 1.")


def _check_kind(arguments: argparse.Namespace, labels: Labels) -> None:
    for name in ("min_score", "out_of_scope_label"):
        if getattr(arguments, name) is not None and labels.kind != SINGLE:
            raise ArgumentError(f"--{name.replace('_', '-')} is for labels that exclude each other.")
    if arguments.multi_label_threshold is not None and labels.kind != MULTI:
        raise ArgumentError("--multi-label-threshold: the model gives every text one label; leave it out.")


def _keep(deployment: Deployment, found: Fitted, arguments: argparse.Namespace) -> None:
    """Write the entries into config.json, and facts about them into report.json, where there is one."""
    asked = {name: getattr(arguments, name) for name in ("min_score", "out_of_scope_label")}
    decided = entries(found.labels) | {name: value for name, value in asked.items() if value is not None}
    config = {key: value for key, value in deployment.config.items() if key not in decided}
    kept = {key: value for key, value in decided.items() if value is not None}
    write_json(deployment.config_file, config | kept)
    path = deployment.folder / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(report, dict):
        rows = {"dataset": Path(arguments.dataset).name}
        write_json(path, {**report, "calibration": {**found.facts, **rows}})


def _show_coverage(curve: Sequence[dict[str, Any]]) -> None:
    """The table to choose --min-score by: without the steps that change nothing."""
    rows: list[tuple[str, str, str]] = []
    last = np.nan
    for entry in curve:
        if entry["coverage"] != last:
            rows.append((f"{entry['min_score']:.2f}", f"{entry['coverage']:.1%}", f"{entry['accuracy']:.1%}"))
        last = entry["coverage"]
    output.print(aligned(rows, ("min score", "rows answered", "accuracy of these")))


def _parser() -> Parser:
    parser = Parser(
        "sparseml calibrate",
        "Fit the probabilities of a deployed classifier to labelled rows that it has not learned from, and keep what "
        "it decides by in its config.json.",
        _EXAMPLE,
    )
    add = parser.add_argument
    add("model", help="a deployment folder")
    add("-d", "--dataset", required=True, help="a file of labelled rows: CSV, TSV, JSON Lines, Parquet")
    add(
        "--calibration",
        choices=(TEMPERATURE, "none"),
        default=TEMPERATURE,
        help="none leaves the probabilities as they are [%(default)s]",
    )
    add(
        "--multi-label-threshold",
        choices=(VALIDATION,),
        help="find a threshold for each of several labels, that of its greatest F1",
    )
    add("--min-score", type=float, help="no label for texts whose best has a lower score; 0: all get one")
    add("--out-of-scope-label", help="the label of such texts: another name, or one of the classes")
    add("-e", "--engine", default="deepsparse", help="onnxruntime, openvino, ... [the best installed]")
    add(
        "--max-sequence-length",
        type=parser.count,
        help="tokens of a text, or a window [384; of windows, the model's]",
    )
    add("--input-column-names", help="the text column, or two with a comma between [found by their names]")
    add("--label-column-name", default="label", help="[%(default)s]")
    return parser
