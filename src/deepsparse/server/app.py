"""The server's routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deepsparse.server import explanations, open_inference
from deepsparse.server.api_key import ApiKey
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
from deepsparse.server.other_servers import CLASSIFY, PREDICT
from deepsparse.server.queue import QueueFullError
from deepsparse.server.refusal import refusal
from deepsparse.server.requests import (
    BodyLimit,
    FastInferRoute,
)
from deepsparse.server.service import GONE, Server, status_of
from resparse import __version__
from resparse.errors import UserError

# The pages load nothing from elsewhere, and no other site may show them within its own.
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_UNREADY: dict[int | str, dict[str, Any]] = {503: {"description": "A model does not answer."}}
_OF_INFERENCE = refusals(400, 404, 408, 413, 422, 429, 503)


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
    if server.tracing is not None:
        from deepsparse.server.tracing import TraceRequests

        # Added last, so that it is the outermost and sees refusals, too.
        app.add_middleware(TraceRequests, tracing=server.tracing)
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
        (f"{of_model}/explain", server.explain, explanations.SCHEMA),
        ("/explain", server.explain_first, explanations.SCHEMA),
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
    for action in ("infer", "benchmark", "explain"):
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
    return JSONResponse(refusal(" ".join(str(error).splitlines())), status_of(error), headers)


async def _refuse_by_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(refusal(error.detail), error.status_code, error.headers)


async def _let_go(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


def _page(file: str) -> Callable[[], Awaitable[Response]]:
    text = files("deepsparse.server").joinpath(file).read_text(encoding="utf-8")

    async def page() -> Response:
        return HTMLResponse(text, headers=_POLICY)

    return page
