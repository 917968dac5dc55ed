"""The server's routes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deepsparse.errors import InputError, ModelError
from deepsparse.server import open_inference, other_servers
from deepsparse.server.added import ForbiddenError, added_endpoint
from deepsparse.server.api_key import ApiKey
from deepsparse.server.config import ServerConfig
from deepsparse.server.endpoints import ConfigWatch, Endpoint, Endpoints, UnknownEndpointError
from deepsparse.server.metrics import METRICS_TYPE
from deepsparse.server.openapi import (
    ADDED,
    REMOVED,
    benchmark_schema,
    body,
    infer_schema,
    refusals,
    secured,
)
from deepsparse.server.other_servers import CLASSIFY, PREDICT, parse_classify, parse_predict
from deepsparse.server.queue import ClosingError, QueueFullError, TooManyError
from deepsparse.server.refusal import refusal
from deepsparse.server.requests import (
    BodyLimit,
    FastInferRoute,
    NotJsonError,
    parse_benchmark,
    parse_infer,
    parse_object,
)
from resparse import __version__
from resparse.errors import UserError

_STATUS: dict[type[UserError], int] = {
    NotJsonError: 400,
    ForbiddenError: 403,
    UnknownEndpointError: 404,
    TooManyError: 413,
    QueueFullError: 429,
    ClosingError: 503,
}
_CONCURRENT = 4
# Counted for clients that did not wait; nobody is answered with it.
_GONE = 499
# The pages load nothing from elsewhere, and no other site may show them within its own.
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_UNREADY: dict[int | str, dict[str, Any]] = {503: {"description": "A model does not answer."}}
_OF_INFERENCE = refusals(400, 404, 408, 413, 422, 429, 503)
# Made once, since making one takes as long as encoding a short answer.
_encoder = json.JSONEncoder(ensure_ascii=False, default=asdict)


class Server:
    """The state behind the routes.

    Args:
        endpoints: the models.
        config: of the server.
        watch: over the configuration's file, where changes are to be followed.
        api_key: that requests must have; None serves everybody.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        config: ServerConfig,
        watch: ConfigWatch | None = None,
        api_key: str | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.config = config
        self.watch = watch
        self.api_key = api_key

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Run until the server stops; then answer the accepted requests."""
        watching = asyncio.create_task(self.watch.follow(self.endpoints)) if self.watch else None
        yield
        if watching is not None:
            watching.cancel()
        await self.endpoints.close()

    async def infer(self, name: str, request: Request) -> Response:
        """Answer a request in the task's own form, or in that of the Open Inference Protocol."""

        async def answered(endpoint: Endpoint, content: bytes) -> Response:
            json_length = request.headers.get(open_inference.LENGTH_HEADER)
            rows, options, asked = parse_infer(content, endpoint.pipeline.handler, json_length)
            output = endpoint.pipeline.output(await endpoint.answer(rows, **options), **options)
            if asked is None:
                return _json(vars(output))
            body, headers = open_inference.answer(name, asked, output)
            return Response(body, headers=headers)

        return await self._counted(name, request, answered)

    async def _counted(
        self, name: str, request: Request, answered: Callable[[Endpoint, bytes], Awaitable[Response]]
    ) -> Response:
        """Read a request's body, have it answered, and count it with its status."""
        _ = self.endpoints[name]  # an unknown name is refused before the body is read
        started, status = time.perf_counter(), 500
        counts = self.endpoints.metrics
        try:
            content = await request.body()
            started = time.perf_counter()
            # Looked up once the body is here, with nothing awaited before its texts are in the queue: a model that
            # is replaced answers all that it was given, and closes.
            response = await answered(self.endpoints[name], content)
            status = 200
            return response
        except (UserError, HTTPException) as error:
            status = error.status_code if isinstance(error, HTTPException) else _status(error)
            raise
        except ClientDisconnect:
            status = _GONE
            raise
        finally:
            counts.requests.labels(name, str(status)).inc()
            counts.seconds.labels(name).observe(time.perf_counter() - started)

    async def infer_first(self, request: Request) -> Response:
        """Classify by the first model."""
        return await self.infer(self._first(), request)

    async def classify(self, request: Request) -> Response:
        """Classify texts, as vLLM's server does."""
        asked = parse_classify(await request.body())

        async def answered(endpoint: Endpoint, content: bytes) -> Response:
            return _json(await other_servers.classify(endpoint, asked))

        return await self._counted(asked.model or self._first(), request, answered)

    async def predict(self, request: Request) -> Response:
        """Classify by the first model, as Text Embeddings Inference does."""

        async def answered(endpoint: Endpoint, content: bytes) -> Response:
            return _json(await other_servers.predict(endpoint, parse_predict(content)))

        return await self._counted(self._first(), request, answered)

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
        return _json(_timings(sorted(spent), time.perf_counter() - begun, len(rows)))

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
        return _json(endpoint.describe())

    async def remove_endpoint(self, request: Request) -> Response:
        """Serve a model no more."""
        self._changeable(request)
        name = parse_object(await request.body()).get("name")
        if not isinstance(name, str):
            raise InputError('The field "name" is missing, or no text: that of the endpoint to remove.')
        await self.endpoints.remove(name)
        return _json({"removed": name})

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


def create_app(server: Server, fast: bool = True) -> FastAPI:
    """An application with all routes.

    Args:
        server: what answers.
        fast: whether requests for inference pass FastAPI by (see `FastInferRoute`), which changes no answer.
    """
    app = FastAPI(
        title="deepsparse", version=__version__, lifespan=server.lifespan, docs_url=None, redoc_url=None
    )
    app.state.server = server
    if fast:
        app.add_middleware(FastInferRoute, infer=server.infer, refuse=_refuse)
    app.add_middleware(BodyLimit, most=server.config.max_request_bytes)
    if server.api_key is not None:
        app.add_middleware(
            ApiKey,
            key=server.api_key,
            on_refused=lambda: server.endpoints.metrics.refused.labels("key").inc(),
        )
        app.openapi = secured(app.openapi)  # type: ignore[method-assign]
    app.add_exception_handler(UserError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_by_status)
    app.add_exception_handler(ClientDisconnect, _let_go)
    _add_information(app, server)
    _add_models(app, server)
    if server.config.integration == "sagemaker":
        _add_sagemaker(app, server)
    return app


def _add_information(app: FastAPI, server: Server) -> None:
    for path, file in (("/", "page.html"), ("/docs", "docs.html")):
        app.add_api_route(path, _page(file), methods=["GET"], include_in_schema=False)

    @app.get("/config")
    async def config() -> dict[str, Any]:
        return server.config.shown()

    @app.get("/v2")
    async def metadata() -> dict[str, Any]:
        models = [endpoint.describe() for endpoint in server.endpoints]
        extensions = list(open_inference.EXTENSIONS)
        return {"name": "deepsparse", "version": __version__, "extensions": extensions, "models": models}

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    app.add_api_route("/v2/health/ready", server.ready, methods=["GET"], responses=_UNREADY)
    app.add_api_route("/health", server.ready, methods=["GET"], include_in_schema=False)
    for path, answer in (
        ("/health", server.ready),
        ("/v2/health/live", live),
        ("/v2/health/ready", server.ready),
    ):
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)  # load balancers ask so

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(server.endpoints.metrics.text(), media_type=METRICS_TYPE)


def _add_models(app: FastAPI, server: Server) -> None:
    # Names may hold slashes (route: /a/b); so the longer addresses come first.
    of_model = "/v2/models/{name:path}"
    app.add_api_route(
        f"{of_model}/ready", server.model_ready, methods=["GET"], responses=_UNREADY | refusals(404)
    )
    app.add_api_route(
        f"{of_model}/infer",
        server.infer,
        methods=["POST"],
        openapi_extra=body(infer_schema()),
        responses=_OF_INFERENCE,
    )
    app.add_api_route(
        f"{of_model}/benchmark",
        server.benchmark,
        methods=["POST"],
        openapi_extra=body(benchmark_schema()),
        responses=_OF_INFERENCE,
    )

    for path, answer, schema in (
        ("/classify", server.classify, CLASSIFY),
        ("/predict", server.predict, PREDICT),
    ):
        app.add_api_route(path, answer, methods=["POST"], openapi_extra=body(schema), responses=_OF_INFERENCE)

    @app.get(of_model, responses=refusals(404, 405))
    async def model(name: str) -> dict[str, Any]:
        _refuse_to_get(name)
        return server.endpoints[name].describe()

    of_changes = refusals(400, 403, 408, 413, 422)
    for method, answer, schema in (
        ("POST", server.add_endpoint, ADDED),
        ("DELETE", server.remove_endpoint, REMOVED),
    ):
        app.add_api_route(
            "/endpoints",
            answer,
            methods=[method],
            openapi_extra=body(schema),
            responses=of_changes | (refusals(404) if method == "DELETE" else {}),
        )


def _refuse_to_get(name: str) -> None:
    """What is only posted to is no model's name: a GET says so with 405."""
    for action in ("infer", "benchmark"):
        if name.endswith(f"/{action}"):
            raise HTTPException(405, f"{action} takes POST, with the texts in the body.", {"Allow": "POST"})


def _add_sagemaker(app: FastAPI, server: Server) -> None:
    app.add_api_route("/ping", server.ready, methods=["GET"])

    for path, answer in (
        ("/invocations", server.infer_first),
        ("/invocations/{name:path}/infer", server.infer),
    ):
        app.add_api_route(
            path, answer, methods=["POST"], openapi_extra=body(infer_schema()), responses=_OF_INFERENCE
        )


async def _refuse(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFullError) else None
    return JSONResponse(refusal(" ".join(str(error).splitlines())), _status(error), headers)


async def _refuse_by_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(refusal(error.detail), error.status_code, error.headers)


async def _let_go(request: Request, error: Exception) -> Response:
    return Response(status_code=_GONE)


def _page(file: str) -> Callable[[], Awaitable[Response]]:
    text = files("deepsparse.server").joinpath(file).read_text(encoding="utf-8")

    async def page() -> Response:
        return HTMLResponse(text, headers=_POLICY)

    return page


def _status(error: Exception) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)


def _ready(value: bool) -> Response:
    return JSONResponse({"ready": value}, 200 if value else 503)


def _json(content: dict[str, Any] | list[Any]) -> Response:
    return Response(_encoder.encode(content), media_type="application/json")


def _timings(spent: list[float], total: float, rows: int) -> dict[str, Any]:
    def at(share: float) -> float:
        return round(spent[min(int(share * len(spent)), len(spent) - 1)] * 1e3, 3)

    return {
        "requests": len(spent),
        "texts_per_second": round(len(spent) * rows / total, 2),
        "milliseconds": {"median": at(0.5), "p95": at(0.95), "p99": at(0.99)},
    }
