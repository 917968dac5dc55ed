"""What a request passes before FastAPI: the limit of its body's size, and the fast route of inference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resparse.errors import UserError

_BEFORE: Final = "/v2/models/"
_AFTER: Final = "/infer"

Infer = Callable[[str, Request], Awaitable[Response]]
Refuse = Callable[[Request, Exception], Awaitable[Response]]


class BodyLimit:
    """Middleware that answers 413 to bodies above a number of bytes, before they fill the memory."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = Headers(scope=scope).get("content-length", "")
        is_stated = stated.isdigit()
        read = int(stated) if is_stated else 0

        async def counted() -> Message:
            nonlocal read
            if read > self._most:
                raise self._refusal()
            message = await receive()
            if not is_stated:
                read += len(message.get("body", b""))
                if read > self._most:
                    raise self._refusal()
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> HTTPException:
        words = f"The request is larger than {self._most:,} bytes, which is the most this server takes."
        # Closed, since the rest of the body has not been read.
        return HTTPException(413, words, {"Connection": "close"})


class FastInferRoute:
    """Middleware that answers POST /v2/models/NAME/infer itself, and leaves all else to the application.

    FastAPI's way from a request to a function, with its contexts, its list of routes and its dependencies, takes as
    long as the model takes for a short text. The route is declared there all the same, for its description.

    Args:
        app: the application.
        infer: answers a request for an endpoint.
        refuse: answers where that raised a UserError.
    """

    def __init__(self, app: ASGIApp, infer: Infer, refuse: Refuse) -> None:
        self._app = app
        self._infer = infer
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        name = _endpoint(scope)
        if name is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._infer(name, request)
        except UserError as error:
            response = await self._refuse(request, error)
        except HTTPException as error:
            response = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
        await response(scope, receive, send)


def _endpoint(scope: Scope) -> str | None:
    """The endpoint of a request for inference; None for any other request."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path: str = scope["path"]
    if not (path.startswith(_BEFORE) and path.endswith(_AFTER)):
        return None
    return path[len(_BEFORE) : -len(_AFTER)]
