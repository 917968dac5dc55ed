"""The tasks that models are trained and exported for: one file each, listed here; `base.py` says what a task is.

A task is imported when it is asked for: the list alone loads nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resparse.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from sparseml.tasks.base import Task


@dataclass(frozen=True)
class Entry:
    """A task in the list.

    Attributes:
        place: "module:Class" of its `Task`.
        architecture: how the names of its model classes in Transformers end.
        other_names: further names that commands take for it.
        check_rows: "module:function" that checks rows before PyTorch is imported, and imports nothing heavy: it takes
            the splits by role ("train", "validation") and the arguments that are given, as they are written, and raises
            what `Task.load_data` would.
        deployed: whether its models are exported; those of others are starts for trainings.
    """

    place: str
    architecture: str
    other_names: tuple[str, ...] = ()
    check_rows: str | None = None
    deployed: bool = True


DEFAULT = "text_classification"
"""The task that is meant where nothing says which."""

TASKS = {
    "text_classification": Entry(
        "sparseml.tasks.text_classification:TextClassification",
        "ForSequenceClassification",
        ("sequence_classification", "sentiment_analysis", "glue"),
        "sparseml.data.text_classification:check_rows",
    ),
    "question_answering": Entry(
        "sparseml.tasks.question_answering:QuestionAnswering",
        "ForQuestionAnswering",
        ("qa", "squad"),
        "sparseml.data.question_answering:check_rows",
    ),
    "token_classification": Entry(
        "sparseml.tasks.token_classification:TokenClassification",
        "ForTokenClassification",
        ("ner",),
        "sparseml.data.token_classification:check_rows",
    ),
    "masked_language_modeling": Entry(
        "sparseml.tasks.masked_language_modeling:MaskedLanguageModeling",
        "ForMaskedLM",
        ("mlm",),
        deployed=False,
    ),
}


class TaskError(UserError):
    """A task that does not exist here."""


def names(deployed: bool | None = None) -> list[str]:
    """All names of all tasks, or of those that are deployed, or of those that are not."""
    return [
        name
        for task, entry in TASKS.items()
        for name in (task, *entry.other_names)
        if deployed in (None, entry.deployed)
    ]


def own_name(called: str) -> str:
    """A task's own name, from any of its names, in any case and with hyphens or underscores.

    Raises:
        TaskError: there is none; with the nearest names.
    """
    plain = called.lower().replace("-", "_").replace(" ", "_")
    for task, entry in TASKS.items():
        if plain in (task, *entry.other_names):
            return task
    raise TaskError(f"--task {called!r} is no task here. {did_you_mean(plain, names())}")


def load_task(called: str = DEFAULT) -> Task:
    """The task of a name.

    Raises:
        TaskError: there is none; with the nearest names.
    """
    module, _, attribute = TASKS[own_name(called)].place.partition(":")
    task: Task = getattr(import_module(module), attribute)()
    return task


def task_of(config: Any) -> Task:
    """The task of a model, by its configuration's classes; the default where these say nothing."""
    classes = [str(name) for name in getattr(config, "architectures", None) or ()]
    for task, entry in TASKS.items():
        if any(name.endswith(entry.architecture) for name in classes):
            return load_task(task)
    return load_task()
