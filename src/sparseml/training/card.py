"""The model card of a training: who started where, on which data, with which result."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resparse.console import say
from sparseml import model_card
from sparseml.data.known_datasets import BENCHMARK_TASKS, RENAMED_DATASETS
from sparseml.model_card.origin import origin_of
from sparseml.session import checkpoint
from sparseml.training.arguments import Arguments
from sparseml.training.prepare import Prepared


def write_card(arguments: Arguments, prepared: Prepared, report: Mapping[str, Any]) -> None:
    """Write README.md into the output folder; a card of the user's own stays, and a line says so."""
    folder = Path(str(arguments.training.output_dir))
    hub_id = arguments.training.hub_model_id if arguments.training.push_to_hub else None
    recipe = folder / checkpoint.RECIPE_FILE
    address = hub_id or folder.name or "."
    subject = model_card.Subject(
        name=(hub_id or folder.resolve().name).rpartition("/")[2],
        address=address,
        usage=prepared.task.usage(shlex.quote(address)),
        pipeline_tag=prepared.task.pipeline_tag(report["model"]["class"]),
        report=report,
        data_name=prepared.data.name,
        datasets=_datasets(arguments.data),
        origin=origin_of(prepared.source.called, prepared.source.folder),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else None,
    )
    if not model_card.write(folder, subject):
        say(f"{folder / model_card.CARD} is not as a training wrote it, and stays.")


def _datasets(asked: Any) -> tuple[str, ...]:
    """The ids on the Hub of the data; none for files and folders of the user's."""
    files = (asked.train_file, asked.validation_file, asked.test_file)
    if asked.task_name is not None and not any(files):
        return (BENCHMARK_TASKS[asked.task_name].repo,)
    name = asked.dataset_name
    if name is None or Path(name).expanduser().exists():
        return ()
    return (RENAMED_DATASETS.get(name.lower(), name),)
