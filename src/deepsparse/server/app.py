"""The server's routes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from deepsparse.errors import DeepsparseError
from deepsparse.server.config import parse_config
from deepsparse.server.endpoints import METRICS_TYPE, ConfigWatch, Endpoint, Endpoints, UnknownEndpointError
from deepsparse.server.queue import ClosingError, QueueFullError, TooManyError
from deepsparse.server.requests import (
    BodyLimit,
    FastInferRoute,
    NotJsonError,
    benchmark_schema,
    infer_schema,
    parse_benchmark,
    parse_infer,
    parse_object,
)
from resparse import __version__
from resparse.errors import UserError


class ForbiddenError(DeepsparseError):
    """Something that the server's configuration does not allow."""


_STATUS: dict[type[UserError], int] = {
    NotJsonError: 400,
    ForbiddenError: 403,
    UnknownEndpointError: 404,
    TooManyError: 413,
    QueueFullError: 429,
    ClosingError: 503,
}
_CONCURRENT = 4
# Made once, since making one takes as long as encoding a short answer.
_encoder = json.JSONEncoder(ensure_ascii=False, default=asdict)


class Server:
    """The state behind the routes: the models, the configuration as GET /config shows it, the watch over its file."""

    def __init__(self, endpoints: Endpoints, config: dict[str, Any], watch: ConfigWatch | None) -> None:
        self.endpoints = endpoints
        self.config = config
        self.watch = watch
        self.page = files("deepsparse.server").joinpath("page.html").read_text(encoding="utf-8")

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Run until the server stops; then answer the accepted requests."""
        watching = asyncio.create_task(self.watch.follow(self.endpoints)) if self.watch else None
        yield
        if watching is not None:
            watching.cancel()
        await self.endpoints.close()

    async def infer(self, name: str, request: Request) -> Response:
        """Classify the texts of a request."""
        started = time.perf_counter()
        status = 500
        counts = self.endpoints.metrics
        endpoint = self.endpoints[name]
        try:
            rows, options = parse_infer(await request.body(), endpoint.pipeline.handler)
            predictions = await endpoint.answer(rows, **options)
            status = 200
            return _json(vars(endpoint.pipeline.output(predictions, **options)))
        except (UserError, HTTPException) as error:
            status = error.status_code if isinstance(error, HTTPException) else _status(error)
            raise
        finally:
            counts.requests.labels(name, str(status)).inc()
            counts.seconds.labels(name).observe(time.perf_counter() - started)

    async def benchmark(self, name: str, request: Request) -> Response:
        """Classify the same texts again and again for a while, and say how long it took."""
        endpoint = self.endpoints[name]
        rows, seconds = parse_benchmark(await request.body(), endpoint.pipeline.handler)
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
        self._may_change()
        content = parse_object(await request.body())
        (config,) = parse_config({"endpoints": [content]}, "endpoint").endpoints
        endpoint = await asyncio.to_thread(self.endpoints.load, config)
        await self.endpoints.add(endpoint)
        return _json(endpoint.describe())

    async def remove_endpoint(self, request: Request) -> Response:
        """Serve a model no more."""
        self._may_change()
        name = str(parse_object(await request.body()).get("name"))
        await self.endpoints.remove(name)
        return _json({"removed": name})

    def _may_change(self) -> None:
        if not self.config.get("allow_endpoint_changes"):
            raise ForbiddenError(
                "This server's endpoints are not to be changed over HTTP. Whoever runs it can allow that: "
                "allow_endpoint_changes: true in its configuration."
            )


def create_app(server: Server) -> FastAPI:
    """An application with all routes."""
    app = FastAPI(title="deepsparse", version=__version__, lifespan=server.lifespan, redoc_url=None)
    app.state.server = server
    app.add_middleware(FastInferRoute, infer=server.infer, refuse=_refuse)
    app.add_middleware(BodyLimit, most=server.config["max_request_bytes"])
    app.add_exception_handler(UserError, _refuse)
    _add_information(app, server)
    _add_models(app, server)
    if server.config["integration"] == "sagemaker":
        _add_sagemaker(app, server)
    return app


def _add_information(app: FastAPI, server: Server) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return server.page

    @app.get("/config")
    async def config() -> dict[str, Any]:
        return server.config

    @app.get("/v2")
    async def metadata() -> dict[str, Any]:
        models = [endpoint.describe() for endpoint in server.endpoints]
        return {"name": "deepsparse", "version": __version__, "extensions": [], "models": models}

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    app.add_api_route("/v2/health/ready", server.ready, methods=["GET"])
    for path, answer in (("/v2/health/live", live), ("/v2/health/ready", server.ready)):
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)  # load balancers ask so

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(server.endpoints.metrics.text(), media_type=METRICS_TYPE)


def _add_models(app: FastAPI, server: Server) -> None:
    # Names may hold slashes (route: /a/b); so the longer addresses come first.
    app.add_api_route("/v2/models/{name:path}/ready", server.model_ready, methods=["GET"])
    app.add_api_route(
        "/v2/models/{name:path}/infer", server.infer, methods=["POST"], openapi_extra=_body(infer_schema())
    )
    app.add_api_route(
        "/v2/models/{name:path}/benchmark",
        server.benchmark,
        methods=["POST"],
        openapi_extra=_body(benchmark_schema()),
    )

    @app.get("/v2/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        _refuse_to_get(name)
        return server.endpoints[name].describe()

    app.add_api_route("/endpoints", server.add_endpoint, methods=["POST"])
    app.add_api_route("/endpoints", server.remove_endpoint, methods=["DELETE"])


def _refuse_to_get(name: str) -> None:
    """What is only posted to is no model's name: a GET says so with 405."""
    for action in ("infer", "benchmark"):
        if name.endswith(f"/{action}"):
            raise HTTPException(405, f"{action} takes POST, with the texts in the body.", {"Allow": "POST"})


def _add_sagemaker(app: FastAPI, server: Server) -> None:
    app.add_api_route("/ping", server.ready, methods=["GET"])

    @app.post("/invocations", openapi_extra=_body(infer_schema()))
    async def invoke(request: Request) -> Response:
        first: Endpoint = next(iter(server.endpoints))
        return await server.infer(first.name, request)

    app.add_api_route(
        "/invocations/{name:path}/infer", server.infer, methods=["POST"], openapi_extra=_body(infer_schema())
    )


async def _refuse(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFullError) else None
    return JSONResponse({"detail": str(error)}, _status(error), headers)


def _status(error: Exception) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)


def _ready(value: bool) -> Response:
    return JSONResponse({"ready": value}, 200 if value else 503)


def _json(content: dict[str, Any]) -> Response:
    return Response(_encoder.encode(content), media_type="application/json")


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _timings(spent: list[float], total: float, rows: int) -> dict[str, Any]:
    def at(share: float) -> float:
        return round(spent[min(int(share * len(spent)), len(spent) - 1)] * 1e3, 3)

    return {
        "requests": len(spent),
        "texts_per_second": round(len(spent) * rows / total, 2),
        "milliseconds": {"median": at(0.5), "p95": at(0.95), "p99": at(0.99)},
    }
