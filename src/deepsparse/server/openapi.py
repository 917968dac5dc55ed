"""What the OpenAPI document says of bodies, answers and the API key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from deepsparse import tasks
from deepsparse.server import open_inference
from deepsparse.server.api_key import OPEN, SCHEMES
from deepsparse.server.requests import SECONDS
from deepsparse.tasks.base import Task

_REFUSALS: Final = {
    400: "No JSON.",
    401: "The API key is missing or wrong.",
    403: "The server's configuration does not allow it.",
    404: "There is no such model; names the nearest.",
    405: "The method is another one.",
    408: "The request took too long to arrive.",
    413: "Too large, or more texts than the queue ever holds.",
    422: "Something is missing, wrong or unknown; says what and where.",
    429: "The queue is full; `Retry-After` says when to come again.",
    503: "The server is stopping.",
}
_DETAIL: Final = {
    "type": "object",
    "required": ["detail", "error"],
    "properties": {
        "detail": {"type": "string", "description": "One sentence."},
        "error": {"type": "string", "description": "The same, as the Open Inference Protocol calls it."},
    },
}
_NAME: Final = {"type": "string", "description": "In the address /v2/models/NAME/infer."}

ADDED: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["task", "model"],
    "additionalProperties": False,
    "properties": {
        "task": {"type": "string"},
        "model": {"type": "string", "description": "A deployment folder below the server's models_folder."},
        "name": _NAME,
        "route": {"type": "string", "description": "The name as a path."},
        "batch_size": {"type": "integer", "minimum": 1},
        "bucketing": {"type": "object"},
        "kwargs": {"type": "object", "description": "Settings of the pipeline: sequence_length, top_k, ..."},
    },
    "example": {"task": tasks.DEFAULT, "model": "reviews/deployment", "name": "reviews"},
}
"""The body of a request to add an endpoint."""

REMOVED: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": _NAME},
    "example": {"name": "reviews"},
}
"""The body of a request to remove an endpoint."""


def infer_schema() -> dict[str, Any]:
    """The body of a request for inference: of any task, or of the Open Inference Protocol."""
    return _any_of([*(dict(tasks.find(name).request) for name in tasks.names()), open_inference.SCHEMA])


def benchmark_schema() -> dict[str, Any]:
    """The body of a request to measure, of any task: the inputs, without options."""
    return _any_of([_benchmark(tasks.find(name)) for name in tasks.names()])


def body(schema: dict[str, Any]) -> dict[str, Any]:
    """The part of an operation that describes its body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The part of an operation that describes these answers, all of them as `refusal` makes them."""
    content = {"application/json": {"schema": _DETAIL}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}


def secured(describe: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """A description that says, too, where the API key is asked for."""

    def described() -> dict[str, Any]:
        document = describe()
        if "security" not in document:
            document.setdefault("components", {})["securitySchemes"] = {
                name: dict(scheme) for name, scheme in SCHEMES.items()
            }
            document["security"] = [{name: []} for name in SCHEMES]
            unknown = {str(status): said for status, said in refusals(401).items()}
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    if path in OPEN:
                        operation["security"] = []
                    else:
                        operation["responses"].update(unknown)
        return document

    return described


def _benchmark(task: type[Task[Any, Any]]) -> dict[str, Any]:
    inputs = {name: task.request["properties"][name] for name in task.request["required"]}
    return {
        **task.request,
        "properties": {**inputs, "seconds": SECONDS},
        "example": {**task.example, "seconds": 1},
    }


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
