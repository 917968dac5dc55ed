"""The routes that explain an answer: which words of a text moved its label."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from deepsparse import tasks
from deepsparse.errors import InputError
from deepsparse.explain import REMOVE, WAYS, explaining
from deepsparse.server.endpoints import Endpoint, Endpoints, UnknownEndpointError
from deepsparse.server.openapi import body, refusals
from deepsparse.server.requests import parse_object
from resparse.errors import UserError, did_you_mean

_FIELDS: Final[Mapping[str, Any]] = {
    "sequences": tasks.find(tasks.DEFAULT).request["properties"]["sequences"],
    "label": {"type": "string", "description": "The label to explain; by default the best one."},
    "occluded": {"enum": list(WAYS), "description": "Take words out, or put the mask token there."},
}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["sequences"],
    "additionalProperties": False,
    "properties": dict(_FIELDS),
    "example": {"sequences": "What a day!"},
}
"""The body of a request: one text, or one pair of texts."""


def add_explanations(
    app: FastAPI, endpoints: Endpoints, answered: Any, status_of: Callable[[Exception], int]
) -> None:
    """Add POST /v2/models/NAME/explain, and /explain for the first model.

    Args:
        answered: makes a response of an object.
        status_of: the status that an error is answered with.
    """

    async def one(name: str, request: Request) -> Response:
        """Say which words of a text moved its label."""
        _ = endpoints[name]  # an unknown name is refused before the body is read
        content = await request.body()
        started, status = time.perf_counter(), 500
        try:
            response: Response = answered(await _explained(endpoints[name], content))
            status = 200
            return response
        except (UserError, HTTPException) as error:
            status = error.status_code if isinstance(error, HTTPException) else status_of(error)
            raise
        finally:
            endpoints.metrics.requests.labels(name, str(status)).inc()
            endpoints.metrics.seconds.labels(name).observe(time.perf_counter() - started)

    async def first(request: Request) -> Response:
        """Say which words of a text moved its label, by the first model."""
        endpoint: Endpoint | None = next(iter(endpoints), None)
        if endpoint is None:
            raise UnknownEndpointError("No model is served at the moment.")
        return await one(endpoint.name, request)

    for path, answer in (("/v2/models/{name:path}/explain", one), ("/explain", first)):
        app.add_api_route(
            path,
            answer,
            methods=["POST"],
            openapi_extra=body(SCHEMA),
            responses=refusals(400, 404, 408, 413, 422, 429, 503),
        )


async def _explained(endpoint: Endpoint, content: bytes) -> dict[str, Any]:
    """The answer to a request; its texts wait in the endpoint's queue, as all do."""
    task = endpoint.pipeline.handler
    fields = parse_object(content, task)
    for name in fields:
        if name not in _FIELDS:
            raise InputError(f"There is no field {name[:60]!r}. {did_you_mean(name[:60], _FIELDS)}")
    label, occluded = fields.get("label"), fields.get("occluded", REMOVE)
    if label is not None and not isinstance(label, str):
        raise InputError("label is no text: the name of the label to explain.")
    if occluded not in WAYS:
        raise InputError(f"occluded is {occluded!r:.60}; wanted is {' or '.join(WAYS)}.")
    rows = task.parse({name: fields[name] for name in ("sequences",) if name in fields})
    if len(rows) != 1:
        raise InputError(f"{len(rows)} texts; one is explained at a time.")
    steps = explaining(task, rows[0], label, occluded)
    asked = next(steps)
    while True:
        outputs = await endpoint.outputs(asked)
        try:
            asked = steps.send(outputs.arrays["logits"])
        except StopIteration as done:
            found: dict[str, Any] = done.value.as_json()
            return found
