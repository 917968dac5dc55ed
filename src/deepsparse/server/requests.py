"""Requests before they reach a model: size limit, a fast route for inference, and the body's parsing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepsparse import tasks
from deepsparse.errors import InputError
from deepsparse.server import open_inference
from deepsparse.server.refusal import refusal
from deepsparse.tasks.base import Row, Task
from resparse.errors import UserError, did_you_mean
from resparse.json_text import JsonError, parse_json

Infer = Callable[[str, Request], Awaitable[Response]]
Refuse = Callable[[Request, Exception], Awaitable[Response]]

_MOST_DISCARDED: Final = 16 * 1024 * 1024
_BEFORE: Final = "/v2/models/"
_AFTER: Final = "/infer"
SECONDS: Final = {"type": "number", "minimum": 0.1, "maximum": 10}
"""JSON schema of how long a request to measure may take."""


class NotJsonError(InputError):
    """A body that is no JSON."""


class BodyLimit:
    """Middleware that answers 413 to bodies above a number of bytes, before they fill the memory.

    The rest of a body is read and discarded, up to `_MOST_DISCARDED`: clients read their answer once they have sent
    all, and closing before that would reset their connection.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = Headers(scope=scope).get("content-length", "")
        known = int(stated) if stated.isdigit() else 0
        read = 0

        async def counted() -> Message:
            nonlocal read
            if known <= self._most:
                message = await receive()
                read += len(message.get("body", b""))
                if read <= self._most:
                    return message
            else:
                message = {"more_body": True}
            while message.get("more_body") and max(read, known) <= _MOST_DISCARDED:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return message
                read += len(message.get("body", b""))
            raise self._refusal(is_read=not message.get("more_body"))

        await self._app(scope, counted, send)

    def _refusal(self, is_read: bool) -> HTTPException:
        words = f"The request is larger than {self._most:,} bytes, which is the most this server takes."
        return HTTPException(413, words, None if is_read else {"Connection": "close"})


class FastInferRoute:
    """Middleware that answers POST /v2/models/NAME/infer itself, and leaves all else to the application.

    FastAPI's way from a request to a function, with its contexts, its list of routes and its dependencies, takes as
    long as the model takes for a short text. The route is declared there all the same, for its description.
    `refuse` answers where `infer` raises a UserError.
    """

    def __init__(self, app: ASGIApp, infer: Infer, refuse: Refuse) -> None:
        self._app = app
        self._infer = infer
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = endpoint_of(scope)
        if name is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._infer(name, request)
        except UserError as error:
            response = await self._refuse(request, error)
        except HTTPException as error:
            response = JSONResponse(refusal(error.detail), error.status_code, error.headers)
        except ClientDisconnect:
            return  # there is nobody to answer
        await response(scope, receive, send)


def parse_infer(
    body: bytes, task: Task[Any, Any], json_length: str | None = None
) -> tuple[list[Row], dict[str, Any], open_inference.Asked | None]:
    """Rows and options of a request for inference, and what the Open Inference Protocol asks; None of another body.

    Args:
        json_length: the header that says where the body's JSON ends, where there is one.

    Raises:
        InputError: no JSON, unknown fields, no inputs; says what and where.
    """
    end = len(body)
    if json_length is not None:
        end = int(json_length) if json_length.isdecimal() and len(json_length) < 16 else -1
        if not 0 <= end <= len(body):
            raise InputError(
                f"{open_inference.LENGTH_HEADER} is {json_length[:20]!r}; the body has {len(body):,} bytes."
            )
    fields = parse_object(body[:end], task)
    if open_inference.is_one(fields, task):
        return parse_tensors(fields, body[end:], task)
    if end < len(body):
        raise InputError(
            "Binary data follow the body's JSON, which is no request of the Open Inference Protocol."
        )
    return *_rows_and_options(fields, task), None


def parse_tensors(
    fields: Mapping[str, Any], binary: bytes, task: Task[Any, Any]
) -> tuple[list[Row], dict[str, Any], open_inference.Asked]:
    """As `parse_infer`, of a request of the Open Inference Protocol: its JSON, and the tensors behind that."""
    own, asked = open_inference.read(fields, binary, task)
    return *_rows_and_options(own, task), asked


def _rows_and_options(fields: Mapping[str, Any], task: Task[Any, Any]) -> tuple[list[Row], dict[str, Any]]:
    check_names(fields, task.request["properties"])
    options = task.options(fields)
    return task.parse(fields), options


def parse_benchmark(body: bytes, task: Task[Any, Any]) -> tuple[list[Row], float]:
    """Rows of a request to measure, and for how many seconds they are run again and again; raises as `parse_infer`."""
    inputs = task.request["required"]
    fields = parse_object(body, task)
    check_names(fields, [*inputs, "seconds"])
    seconds = fields.pop("seconds", 1)
    if type(seconds) not in (int, float) or not SECONDS["minimum"] <= seconds <= SECONDS["maximum"]:
        raise InputError(f"seconds is {json.dumps(seconds)}; wanted is a number from 0.1 to 10.")
    rows = task.parse(fields)
    if not rows:
        raise InputError(f"{' and '.join(inputs)} is empty: there is nothing to measure.")
    return rows, float(seconds)


def parse_object(body: bytes, task: Task[Any, Any] | None = None) -> dict[str, Any]:
    """Read a JSON object; the error shows the example of `task`, by default text classification.

    Raises:
        NotJsonError: it is no JSON; with the place.
        InputError: it is no object.
    """
    try:
        content = parse_json(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NotJsonError("The body is no UTF-8 text.") from error
    except JsonError as error:
        hint = " (within a string, control characters are written \\n, \\u0000, ...)"
        raise NotJsonError(
            f"The body is no JSON: {error}{hint if 'control' in error.reason else ''}."
        ) from error
    if not isinstance(content, dict):
        example = (task or tasks.find(tasks.DEFAULT)).example
        raise InputError(f"The body has to be an object such as {json.dumps(example)}.")
    return content


def check_names(fields: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a field of another name, with an InputError that gives the nearest."""
    for name in fields:
        if name not in known:
            raise InputError(f"There is no field {name[:60]!r}. {did_you_mean(name[:60], known)}")


def endpoint_of(scope: Scope) -> str | None:
    """The endpoint of a request for inference; None for any other request."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path: str = scope["path"]
    is_infer = path.startswith(_BEFORE) and path.endswith(_AFTER)
    return path[len(_BEFORE) : -len(_AFTER)] if is_infer else None
