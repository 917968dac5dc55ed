"""The command `deepsparse.transformers.eval_downstream`: the training's metrics of an exported model, as deployed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepsparse import Pipeline
from deepsparse.command_line import ArgumentsError, Parser, normal_options
from deepsparse.deployment import Deployment, open_deployment
from deepsparse.pipeline import USUAL_LENGTH
from resparse.console import output, run, warn
from resparse.errors import did_you_mean
from resparse.files import write_json
from resparse.long_texts import KEY as LONG_TEXTS
from sparseml.data import DataOptions
from sparseml.data.known_datasets import BENCHMARK_TASKS, benchmark_key
from sparseml.missing import needs
from sparseml.tasks import load_task

_EXAMPLE = """\
for example:
  deepsparse.transformers.eval_downstream deployment/ -d mnli
  deepsparse.transformers.eval_downstream deployment/ -d test.csv"""
# Datasets that only models of one task can be evaluated on.
_OF_TASK = {
    "squad": "question_answering",
    "squad_v2": "question_answering",
    "conll2003": "token_classification",
}
_USUAL_LENGTH = 384
_UNSUPPORTED = ("sst2_zero_shot",)


def cli() -> int:
    """The console command."""

    def work() -> int:
        with needs("Evaluating"):
            return main(sys.argv[1:])

    return run(work)


def main(words: Sequence[str]) -> int:
    """Evaluate, and print the metrics; a UserError for a mistake on the command line, in the data or in the model."""
    arguments = _parser().parse_args(normal_options(words))
    if arguments.zero_shot or arguments.dataset in _UNSUPPORTED:
        what = "--zero-shot" if arguments.zero_shot else arguments.dataset
        raise ArgumentsError(
            f"{what} is no text classification with labels: {did_you_mean('', BENCHMARK_TASKS)}"
        )
    deployment = open_deployment(arguments.model)
    settings = _settings(arguments, evaluated_length(arguments.max_sequence_length, deployment))
    pipeline = Pipeline.create(None, deployment, **settings)
    wanted = _OF_TASK.get(arguments.dataset, pipeline.task)
    if pipeline.task != wanted:
        raise ArgumentsError(
            f"{arguments.dataset} is for {wanted}, and {arguments.model} for {pipeline.task}."
        )
    metrics = load_task(pipeline.task).evaluate_deployment(pipeline, _data_options(arguments))
    output.print("\n".join(f"{name}: {value:.4f}" for name, value in metrics.items()))
    if arguments.output:
        write_json(
            Path(arguments.output), {"model": arguments.model, "dataset": arguments.dataset, **metrics}
        )
    return 0


def _data_options(arguments: argparse.Namespace) -> DataOptions:
    name = arguments.dataset
    path = Path(name).expanduser()
    named: dict[str, Any] = {"dataset_name": name}
    if path.is_file():
        named = {"validation_file": str(path)}
    elif not path.is_dir() and benchmark_key(name) in BENCHMARK_TASKS:
        named = {"task_name": name}
    return DataOptions(
        **named,
        validation_ratio=arguments.validation_ratio,
        eval_on_test=arguments.eval_on_test,
        input_column_names=arguments.input_column_names,
        label_column_name=arguments.label_column_name,
        max_eval_samples=arguments.max_samples,
        seed=arguments.seed,
        needs_train=False,
    )


def evaluated_length(asked: int | None, deployment: Deployment) -> int:
    """Tokens of a text of labelled rows: what is asked, else 384; of a model that reads windows, those of one."""
    return asked or (USUAL_LENGTH if deployment.config.get(LONG_TEXTS) else _USUAL_LENGTH)


def _settings(arguments: argparse.Namespace, length: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "engine_type": arguments.engine,
        "num_cores": arguments.num_cores or None,
        "sequence_length": length,
    }
    if arguments.profile or arguments.trust_remote_code:
        warn("--profile and --trust-remote-code have no effect here")
    if not arguments.kwargs:
        return settings
    try:
        return {**settings, **dict(json.loads(arguments.kwargs))}
    except (ValueError, TypeError) as error:
        raise ArgumentsError(f"--kwargs {arguments.kwargs!r} is no JSON object: {error}.") from error


def _parser() -> Parser:
    parser = Parser(
        "deepsparse.transformers.eval_downstream", "How right an exported classifier is.", _EXAMPLE
    )
    add = parser.add_argument
    add("model", help="a deployment folder, an .onnx file, or a zoo: stub")
    add(
        "-d",
        "--dataset",
        required=True,
        help=f"{', '.join(BENCHMARK_TASKS)}; a file (CSV, TSV, JSON Lines, Parquet, CoNLL); a folder; or a dataset of "
        "the Hub",
    )
    add("-e", "--engine", default="deepsparse", help="onnxruntime, openvino, ... [the best installed]")
    add("-c", "--num-cores", type=int, default=0, help="threads that compute; 0: all [%(default)s]")
    add(
        "--max-sequence-length",
        type=parser.count,
        help="tokens of a text, or a window [384; of windows, the model's]",
    )
    add("--max-samples", type=parser.count, help="rows at most, classes in proportion")
    add("-v", "--validation-ratio", type=float, help="share of the training rows to evaluate on instead")
    add("--eval-on-test", action="store_true", help="evaluate on the test split")
    add("--input-column-names", help="the text column, or two with a comma between [found by their names]")
    add("--label-column-name", default="label", help="[%(default)s]")
    add("-s", "--seed", type=int, default=42, help="of the choice of rows [%(default)s]")
    add("-o", "--output", help="write the metrics to a JSON file")
    add("--batch-size", type=parser.count, help="accepted: batches are made by length")
    add("--kwargs", help="further arguments of Pipeline.create, as a JSON object")
    add("--profile", action="store_true", help="accepted, without effect")
    add("--zero-shot", action="store_true", help="not for text classification")
    add("--trust-remote-code", action="store_true", help="accepted, without effect")
    return parser


if __name__ == "__main__":
    raise SystemExit(cli())
