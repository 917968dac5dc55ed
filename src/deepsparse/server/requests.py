"""Request bodies: their JSON schemas, and one clear sentence for whatever is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from deepsparse import tasks
from deepsparse.errors import InputError
from deepsparse.tasks.base import Row, Task
from resparse.errors import did_you_mean

_SECONDS = {"type": "number", "minimum": 0.1, "maximum": 10}


class NotJsonError(InputError):
    """A body that is no JSON."""


def infer_schema() -> dict[str, Any]:
    """The body of a request for inference, of any task."""
    return _any_of([dict(tasks.find(name).request) for name in tasks.names()])


def benchmark_schema() -> dict[str, Any]:
    """The body of a request to measure, of any task: the inputs, without options."""
    return _any_of([_benchmark(tasks.find(name)) for name in tasks.names()])


def parse_infer(body: bytes, task: type[Task[Any, Any]] | Task[Any, Any]) -> tuple[list[Row], dict[str, Any]]:
    """Rows and options of a request for inference.

    Raises:
        InputError: no JSON, unknown fields, no inputs; says what and where.
    """
    fields = _fields(body, task.example, task.request["properties"])
    options = task.options(fields)
    return task.parse(fields), options


def parse_benchmark(body: bytes, task: type[Task[Any, Any]] | Task[Any, Any]) -> tuple[list[Row], float]:
    """Rows of a request to measure, and for how many seconds they are run again and again.

    Raises:
        InputError: as `parse_infer`.
    """
    inputs = task.request["required"]
    fields = _fields(body, task.example, [*inputs, "seconds"])
    seconds = fields.pop("seconds", 1)
    if type(seconds) not in (int, float) or not _SECONDS["minimum"] <= seconds <= _SECONDS["maximum"]:
        raise InputError(f"seconds is {json.dumps(seconds)}; wanted is a number from 0.1 to 10.")
    rows = task.parse(fields)
    if not rows:
        raise InputError(f"{' and '.join(inputs)} is empty: there is nothing to measure.")
    return rows, float(seconds)


def parse_object(body: bytes, example: Mapping[str, Any]) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        example: of one, for the error where it is something else.

    Raises:
        NotJsonError: it is no JSON; with the place.
        InputError: it is no object.
    """
    try:
        content = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotJsonError("The body is no UTF-8 text.") from error
    except json.JSONDecodeError as error:
        hint = (
            " (within a string, control characters are written \\n, \\u0000, ...)"
            if "control" in error.msg
            else ""
        )
        raise NotJsonError(
            f"The body is no JSON: line {error.lineno}, column {error.colno}: {error.msg}{hint}."
        ) from error
    except RecursionError as error:
        raise NotJsonError("The body is nested too deeply.") from error
    if not isinstance(content, dict):
        raise InputError(f"The body has to be an object such as {json.dumps(example)}.")
    return content


def _fields(body: bytes, example: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    fields = parse_object(body, example)
    for name in fields:
        if name not in known:
            raise InputError(f"There is no field {name[:60]!r}. {did_you_mean(name[:60], known)}")
    return fields


def _benchmark(task: type[Task[Any, Any]]) -> dict[str, Any]:
    inputs = {name: task.request["properties"][name] for name in task.request["required"]}
    return {
        **task.request,
        "properties": {**inputs, "seconds": _SECONDS},
        "example": {**task.example, "seconds": 1},
    }


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
