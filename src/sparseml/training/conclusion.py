"""The end of a guided run: export, accuracy and speed of the exported model, and the summary."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from resparse.console import output, say, width
from resparse.files import write_json, write_text
from resparse.progress import waiting
from sparseml.data import TextData
from sparseml.guided import folder as folders
from sparseml.options.groups import DEFAULT_MODEL
from sparseml.tasks.base import Texts
from sparseml.training.arguments import Arguments
from sparseml.training.card import write_card
from sparseml.training.prepare import Prepared

DEPLOYMENT: Final = "deployment"

_UPSTREAM: Final = (
    "zoo:nlp/masked_language_modeling/obert-base/pytorch/huggingface/wikipedia_bookcorpus/pruned90-none"
)
_WINDOW: Final = 256
_MOST_TIMED: Final = 1000
_SECONDS: Final = 2.0


def conclude(arguments: Arguments, prepared: Prepared, report: dict[str, Any]) -> dict[str, Any]:
    """Export the trained model, evaluate and time the export, and summarize.

    Writes the deployment folder and `summary.txt`, adds "summary" to `report.json`, prints the summary.

    Returns:
        The report with the export's part and the summary.
    """
    from sparseml.export.deployment import ExportRequest, export

    guided = arguments.guided
    assert guided is not None and prepared.data.train is not None
    folder = guided.folder.path
    rows, truth, rows_called = _labelled_rows(prepared)
    say("exporting, and comparing with PyTorch")
    exported = export(
        ExportRequest(
            source=folder,
            folder=folder / DEPLOYMENT,
            task=prepared.task,
            rows=rows,
            rows_called=rows_called,
            command=arguments.command,
        )
    )
    facts = {
        "name": folder.name,
        "train_rows": len(prepared.data.train),
        "rows_called": rows_called,
        **_measured(prepared, folder / DEPLOYMENT, rows, truth, arguments.data.max_seq_length),
        "size": exported["export"]["size"],
        "check": exported["export"]["verification"],
        "hint": _hint(arguments, prepared.data),
        "next": _next(arguments, prepared),
    }
    text = "\n".join(prepared.task.summarize(facts, width())) + "\n"
    report = {**report, "export": exported["export"], "summary": facts}
    write_json(folder / folders.REPORT, report)
    write_card(arguments, prepared, report)
    write_text(folder / folders.SUMMARY, text)
    if not guided.keeps_checkpoints():
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    output.print(f"\n{text}", end="", markup=False)
    return report


def _labelled_rows(prepared: Prepared) -> tuple[list[Texts], np.ndarray, str]:
    """The rows that the summary is about: those of the test split where they have labels, else the validation's."""
    from deepsparse.tasks.text_inputs import has_text

    data = prepared.data
    truth = None if data.test is None else prepared.task.truth(data.test)
    test = data.test if truth is not None else None
    split = test if test is not None else data.validation
    assert split is not None
    texts = prepared.task.texts(data, split)
    kept = [index for index, row in enumerate(texts) if any(map(has_text, row))]
    truth = prepared.task.truth(split) if truth is None else truth
    assert truth is not None
    called = "the test rows" if test is not None else "validation, which it did not learn from"
    return [texts[index] for index in kept], truth[kept], called


def _measured(
    prepared: Prepared, folder: Path, rows: Sequence[Texts], truth: np.ndarray, length: int
) -> dict[str, Any]:
    """How right the exported model is, and how fast."""
    from deepsparse import Pipeline
    from deepsparse.hardware import cpu_model
    from deepsparse.workload import measure

    with waiting("loading the exported model"):
        pipeline = Pipeline.create(prepared.task.name, folder, sequence_length=length)
    given: list[Any] = [row[0] if len(row) == 1 else row for row in rows]
    answers = prepared.task.assess(pipeline, rows, truth, prepared.labels)
    timed = given[:: max(1, len(given) // _MOST_TIMED)]
    turns = itertools.cycle(timed)
    with waiting("timing the exported model"):
        single = measure(lambda: pipeline.predict([next(turns)]), _SECONDS, 1)
        many = (timed * -(-_WINDOW // len(timed)))[:_WINDOW]
        batched = measure(lambda: pipeline.predict(many), _SECONDS, len(many))
    speed = {
        "median_ms": single.milliseconds(50),
        "p95_ms": single.milliseconds(95),
        "texts_per_second": batched.items_per_second,
        "engine": pipeline.engine.engine_type,
        "cores": pipeline.engine.num_cores,
        "cpu": cpu_model(),
    }
    pipeline.close()
    return {"answers": answers, "speed": speed}


def _hint(arguments: Arguments, data: TextData) -> str | None:
    """Advice where little was learned: the embedded model is small, and comparing two texts is hard."""
    if len(data.columns.texts) == 1 or arguments.model.model_name_or_path != DEFAULT_MODEL:
        return None
    return (
        "The embedded model is small, and two texts are hard to compare where rows are few. A larger one does better: "
        f"--model_name_or_path {_UPSTREAM} (from the Hub)."
    )


def _next(arguments: Arguments, prepared: Prepared) -> dict[str, list[str]]:
    """The commands that come next, by what they do."""
    guided = arguments.guided
    assert guided is not None
    deployment = str(guided.folder.path / DEPLOYMENT)
    serve = ["deepsparse.server", "--task", prepared.task.name, "--model_path", deployment]
    length = arguments.data.max_seq_length
    other = "max_seq_length" in guided.given and length != arguments.task.guided_length
    other = other and not arguments.task.reads_windows
    if other:
        serve = ["deepsparse.server", "--config_file", str(_server_config(arguments, guided.folder.path))]
    predict = ["sparseml", "predict", deployment, "--input", _input(arguments), "--output", "labelled.csv"]
    columns = prepared.data.columns.texts
    if columns != ("text",):
        predict += ["--input-column-names", ",".join(columns)]
    if other:
        predict += ["--sequence-length", str(length)]
    missing = (
        "" if find_spec("fastapi") and find_spec("uvicorn") else " (after pip install 'resparse[server]')"
    )
    return {f"serve it{missing}": serve, "label a file": predict}


def _server_config(arguments: Arguments, folder: Path) -> Path:
    """A configuration for the server, which reads as many tokens as the model was trained on."""
    endpoint = {
        "task": arguments.task.name,
        "model": str((folder / DEPLOYMENT).resolve()),
        "kwargs": {"sequence_length": arguments.data.max_seq_length},
    }
    write_text(folder / "server.yaml", yaml.safe_dump({"endpoints": [endpoint]}, sort_keys=False))
    return folder / "server.yaml"


def _input(arguments: Arguments) -> str:
    """A file that can be labelled: the test rows, else those that were trained on."""
    files = (arguments.data.test_file, arguments.data.train_file)
    usable = (
        file
        for file in files
        if file and Path(file).suffix in (".csv", ".tsv", ".jsonl") and Path(file).is_file()
    )
    return next(usable, "rows.csv")
