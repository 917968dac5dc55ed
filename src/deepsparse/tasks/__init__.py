"""The tasks, by name; the module of one is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any, Final

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError, ModelError
from deepsparse.tasks.base import Outputs, Task, TaskOutput
from resparse.errors import did_you_mean

DEFAULT: Final = "text_classification"
"""The task of a deployment whose `config.json` names none."""

_TASKS: dict[str, str | type[Task[Any, Any]]] = {
    "text_classification": "deepsparse.tasks.text_classification:TextClassification",
    "question_answering": "deepsparse.tasks.question_answering:QuestionAnswering",
    "token_classification": "deepsparse.tasks.token_classification:TokenClassification",
}


def names() -> list[str]:
    """The names of all tasks."""
    return list(_TASKS)


def find(name: str) -> type[Task[Any, Any]]:
    """The task of a name or alias, whatever its case and hyphens.

    Raises:
        EngineError: there is no such task; gives the nearest.
    """
    normal = _normal(name)
    if normal in _TASKS:
        return _load(normal)
    known: list[str] = []
    for task in map(_load, names()):
        if normal in task.aliases:
            return task
        known += [task.name, *task.aliases]
    raise EngineError(f"There is no task {name!r}. {did_you_mean(normal, known)}")


def of_deployment(deployment: Deployment, asked: str | None = None) -> type[Task[Any, Any]]:
    """The task of a deployment: what its `config.json` says, else what is asked for, else text classification.

    Raises:
        EngineError: there is no such task, or it is another than the one asked for.
    """
    stated = deployment.task
    try:
        own = find(stated or asked or DEFAULT)
    except EngineError as error:
        raise error if stated is None else ModelError(f"{deployment.config_file}: {error}") from None
    found = own if asked is None else find(asked)
    if found is not own:
        raise EngineError(
            f"{deployment.folder} was exported for the task {stated}, and cannot be used for {found.name}. "
            "Leave the task out, or give another model."
        )
    return found


def register(task: type[Task[Any, Any]]) -> None:
    """Add a task of another package to the list; again, without effect.

    Raises:
        EngineError: its name is spelled otherwise than names are, or another task has it.
    """
    for name in (task.name, *task.aliases):
        if name != _normal(name) or not name.isidentifier():
            raise EngineError(f"{name!r} is no name for a task: lower case and underscores are wanted.")
        try:
            other = find(name)
        except EngineError:
            continue
        if other is not task:
            raise EngineError(f"There is a task {name!r} already: {other.__module__}.{other.__qualname__}.")
    _TASKS[task.name] = task


def _load(name: str) -> type[Task[Any, Any]]:
    found = _TASKS[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = _TASKS[name] = getattr(importlib.import_module(module), attribute)
    return found


def _normal(name: object) -> str:
    return str(name).strip().lower().replace("-", "_").replace(" ", "_")


__all__ = ["DEFAULT", "Outputs", "Task", "TaskOutput", "find", "names", "of_deployment", "register"]
