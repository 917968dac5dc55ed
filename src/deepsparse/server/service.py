"""What the server does for each request; `app.py` has the routes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deepsparse.errors import InputError, ModelError
from deepsparse.server import explanations, open_inference, other_servers
from deepsparse.server.added import ForbiddenError, added_endpoint
from deepsparse.server.config import ServerConfig
from deepsparse.server.endpoints import ConfigWatch, Endpoint, Endpoints, UnknownEndpointError
from deepsparse.server.other_servers import parse_classify, parse_predict
from deepsparse.server.queue import ClosingError, QueueFullError, TooManyError
from deepsparse.server.requests import (
    NotJsonError,
    parse_benchmark,
    parse_infer,
    parse_object,
)
from resparse.errors import UserError

if TYPE_CHECKING:
    from deepsparse.server.tracing import Tracing

_STATUS: dict[type[UserError], int] = {
    NotJsonError: 400,
    ForbiddenError: 403,
    UnknownEndpointError: 404,
    TooManyError: 413,
    QueueFullError: 429,
    ClosingError: 503,
}
_CONCURRENT = 4
GONE = 499
"""A status that is counted for clients that did not wait; nobody is answered with it."""

ContentT = TypeVar("ContentT")
AnswerT = TypeVar("AnswerT")

# Made once, since making one takes as long as encoding a short answer.
_encoder = json.JSONEncoder(ensure_ascii=False, default=asdict)


class Server:
    """The state behind the routes.

    Args:
        endpoints: the models.
        config: of the server.
        watch: over the configuration's file, where changes are to be followed.
        api_key: that requests must have; None serves everybody.
        tracing: of requests; the same that the endpoints have.

    Attributes:
        beside: runs as long as the server takes requests, in its event loop; requests that it has taken by then are
            answered before the models close.
    """

    beside: AbstractAsyncContextManager[Any] = nullcontext()

    def __init__(
        self,
        endpoints: Endpoints,
        config: ServerConfig,
        watch: ConfigWatch | None = None,
        api_key: str | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.config = config
        self.watch = watch
        self.api_key = api_key
        self.tracing = tracing

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Run until the server stops; then answer the accepted requests."""
        watching = asyncio.create_task(self.watch.follow(self.endpoints)) if self.watch else None
        async with self.beside:
            yield
        if watching is not None:
            watching.cancel()
        await self.endpoints.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    async def infer(self, name: str, request: Request) -> Response:
        """Answer a request in the task's own form, or in that of the Open Inference Protocol."""

        async def answered(endpoint: Endpoint, content: bytes) -> Response:
            json_length = request.headers.get(open_inference.LENGTH_HEADER)
            rows, options, asked = parse_infer(content, endpoint.pipeline.handler, json_length)
            output = endpoint.pipeline.output(await endpoint.answer(rows, **options), **options)
            if asked is None:
                return as_json(vars(output))
            body, headers = open_inference.answer(name, asked, output)
            return Response(body, headers=headers)

        return await self.counted(name, request.body, answered)

    async def counted(
        self,
        name: str,
        receive: Callable[[], Awaitable[ContentT]],
        answered: Callable[[Endpoint, ContentT], Awaitable[AnswerT]],
    ) -> AnswerT:
        """Receive what a request holds, have it answered by an endpoint, and count it with its status."""
        _ = self.endpoints[name]  # an unknown name is refused before the body is read
        started, status = time.perf_counter(), 500
        counts = self.endpoints.metrics
        try:
            content = await receive()
            started = time.perf_counter()
            # Looked up once the body is here, with nothing awaited before its texts are in the queue: a model that
            # is replaced answers all that it was given, and closes.
            answer = await answered(self.endpoints[name], content)
            status = 200
            return answer
        except (UserError, HTTPException) as error:
            status = error.status_code if isinstance(error, HTTPException) else status_of(error)
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            status = GONE
            raise
        finally:
            counts.requests.labels(name, str(status)).inc()
            counts.seconds.labels(name).observe(time.perf_counter() - started)

    async def infer_first(self, request: Request) -> Response:
        """Classify by the first model."""
        return await self.infer(self._first(), request)

    async def explain(self, name: str, request: Request) -> Response:
        """Say which words of a text moved its label."""

        async def answered(endpoint: Endpoint, content: bytes) -> Response:
            return as_json(await explanations.explained(endpoint, content))

        return await self.counted(name, request.body, answered)

    async def explain_first(self, request: Request) -> Response:
        """Say which words of a text moved its label, by the first model."""
        return await self.explain(self._first(), request)

    async def classify(self, request: Request) -> Response:
        """Classify texts, as vLLM's server does."""
        asked = parse_classify(await request.body())

        async def answered(endpoint: Endpoint, content: bytes) -> Response:
            return as_json(await other_servers.classify(endpoint, asked))

        return await self.counted(asked.model or self._first(), request.body, answered)

    async def predict(self, request: Request) -> Response:
        """Classify by the first model, as Text Embeddings Inference does."""

        async def answered(endpoint: Endpoint, content: bytes) -> Response:
            return as_json(await other_servers.predict(endpoint, parse_predict(content)))

        return await self.counted(self._first(), request.body, answered)

    def _first(self) -> str:
        """The name of the first model; an UnknownEndpointError where there is none."""
        first: Endpoint | None = next(iter(self.endpoints), None)
        if first is None:
            raise UnknownEndpointError("No model is served at the moment.")
        return first.name

    async def benchmark(self, name: str, request: Request) -> Response:
        """Classify the same texts again and again for a while, and say how long it took."""
        _ = self.endpoints[name]
        content = await request.body()
        endpoint = self.endpoints[name]
        rows, seconds = parse_benchmark(content, endpoint.pipeline.handler)
        end = time.perf_counter() + seconds
        spent: list[float] = []

        async def client() -> None:
            while (begun := time.perf_counter()) < end:
                await endpoint.answer(rows)
                spent.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(_CONCURRENT)))
        return as_json(_timings(sorted(spent), time.perf_counter() - begun, len(rows)))

    async def ready(self) -> Response:
        """Whether all models answer."""
        return _ready(await self.endpoints.are_ready())

    async def model_ready(self, name: str) -> Response:
        """Whether one model answers."""
        endpoint = self.endpoints[name]
        return _ready(not self.endpoints.closing and await endpoint.is_ready())

    async def add_endpoint(self, request: Request) -> Response:
        """Load and serve a model."""
        folder = self._changeable(request)
        content = parse_object(await request.body())
        config = added_endpoint(content, folder)
        try:
            endpoint = await asyncio.to_thread(self.endpoints.load, config)
        except UserError as error:
            # Where the folder lies is nobody's business.
            raise ModelError(str(error).replace(f"{folder}/", "")) from error
        await self.endpoints.add(endpoint)
        return as_json(endpoint.describe())

    async def remove_endpoint(self, request: Request) -> Response:
        """Serve a model no more."""
        self._changeable(request)
        name = parse_object(await request.body()).get("name")
        if not isinstance(name, str):
            raise InputError('The field "name" is missing, or no text: that of the endpoint to remove.')
        await self.endpoints.remove(name)
        return as_json({"removed": name})

    def _changeable(self, request: Request) -> Path:
        """The folder of the models that may be added; a ForbiddenError where endpoints are not to be changed."""
        folder = self.config.models_folder
        if not self.config.allow_endpoint_changes or folder is None:
            raise ForbiddenError(
                "This server's endpoints are not to be changed over HTTP. Whoever runs it can allow that: "
                "allow_endpoint_changes: true in its configuration."
            )
        # A page of another site can have its reader's browser send a request, with the key that the browser knows.
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise ForbiddenError(f"Endpoints are not to be changed from a page of {origin[:100]}.")
        return Path(folder).expanduser().resolve()


def status_of(error: Exception) -> int:
    """The status of HTTP that an error is answered with."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)


def _ready(value: bool) -> Response:
    return JSONResponse({"ready": value}, 200 if value else 503)


def as_json(content: dict[str, Any] | list[Any]) -> Response:
    """An answer of JSON."""
    return Response(_encoder.encode(content), media_type="application/json")


def _timings(spent: list[float], total: float, rows: int) -> dict[str, Any]:
    def at(share: float) -> float:
        return round(spent[min(int(share * len(spent)), len(spent) - 1)] * 1e3, 3)

    return {
        "requests": len(spent),
        "texts_per_second": round(len(spent) * rows / total, 2),
        "milliseconds": {"median": at(0.5), "p95": at(0.95), "p99": at(0.99)},
    }
