"""A request whose body is too large is refused before it fills the memory."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Middleware that answers 413 to bodies above a number of bytes."""

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
        # Closed, since the rest of the body is still on its way.
        return HTTPException(413, words, {"Connection": "close"})
