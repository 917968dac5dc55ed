"""Requests to explain an answer: which words of a text moved its label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deepsparse import tasks
from deepsparse.errors import InputError
from deepsparse.explain import REMOVE, WAYS, explaining
from deepsparse.server.endpoints import Endpoint
from deepsparse.server.requests import check_names, parse_object

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


async def explained(endpoint: Endpoint, content: bytes) -> dict[str, Any]:
    """The answer to a request; its texts wait in the endpoint's queue, as all do."""
    task = endpoint.pipeline.handler
    fields = parse_object(content, task)
    check_names(fields, _FIELDS)
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
