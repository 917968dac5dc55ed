"""Requests to classify go straight to the model.

FastAPI's way from a request to a function, with its contexts, its list of routes and its dependencies, takes as long
as the model takes for a short text. The route is declared there all the same: its description comes from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from resparse.errors import UserError

_BEFORE: Final = "/v2/models/"
_AFTER: Final = "/infer"

Infer = Callable[[str, Request], Awaitable[Response]]
Refuse = Callable[[Request, Exception], Awaitable[Response]]


class InferShortcut:
    """Middleware that answers POST /v2/models/NAME/infer itself, and leaves all else to the application.

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
    """The endpoint that a request to classify is for."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path: str = scope["path"]
    if not (path.startswith(_BEFORE) and path.endswith(_AFTER)):
        return None
    return path[len(_BEFORE) : -len(_AFTER)]
