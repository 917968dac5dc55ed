"""OpenTelemetry traces: a span for each request, and within it the queue, the tokenizer and the engine.

Nothing of this is imported, and no time is taken, where traces are not asked for. Names and attributes are those of the
semantic conventions, https://opentelemetry.io/docs/specs/semconv/; the caller's trace goes on, by the header
`traceparent` of https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deepsparse.server.api_key import OPEN
from deepsparse.server.requests import endpoint_of
from deepsparse.tasks.base import Outputs, Row
from resparse import __version__

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAME: Final = "deepsparse"
_UNTRACED: Final = OPEN | {"/metrics"}
_RPC_FAULTS: Final = (
    2,
    4,
    12,
    13,
    14,
    15,
)  # unknown, deadline, unimplemented, internal, unavailable, data loss
_HEADERS: Final = ("traceparent", "tracestate")


@dataclass(frozen=True)
class _Stages:
    """When a batch began, had been tokenized, and was computed, in nanoseconds since 1970; and its rows."""

    begun: int
    tokenized: int
    done: int
    rows: int


class Staged:
    """Outputs with the stages of the batches that they come from; see `queue.Answers`."""

    def __init__(self, outputs: Outputs, stages: Sequence[_Stages]) -> None:
        self.outputs = outputs
        self.stages = stages

    def __len__(self) -> int:
        return len(self.outputs)

    def __getitem__(self, rows: slice) -> Staged:
        return Staged(self.outputs[rows], self.stages)

    @staticmethod
    def concatenate(parts: Sequence[Staged]) -> Staged:
        """The outputs of all rows of all parts."""
        stages = [each for part in parts for each in part.stages]
        return Staged(Outputs.concatenate([part.outputs for part in parts]), stages)


class Tracing:
    """The traces of a server.

    Args:
        provider: an OpenTelemetry `TracerProvider`, which decides about sampling and where spans go.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_NAME, __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Any]) -> Iterator[Any]:
        """A span of a request, which is the current one within the block; it goes on with the caller's trace."""
        with self._tracer.start_as_current_span(
            name,
            self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    def compute(self, run: Callable[..., Outputs]) -> Callable[[list[Row]], Staged]:
        """What computes batches, made of `Pipeline.run`."""

        def staged(rows: list[Row]) -> Staged:
            tokenized: list[int] = []
            begun = time.time_ns()
            outputs = run(rows, spread=False, on_tokenized=lambda: tokenized.append(time.time_ns()))
            return Staged(outputs, [_Stages(begun, tokenized[0], time.time_ns(), len(rows))])

        return staged

    concatenate = staticmethod(Staged.concatenate)

    def record(self, answered: Staged, submitted: int, endpoint: str, rows: int) -> Outputs:
        """The outputs, once the request's span has one for each stage, as they were measured.

        Args:
            answered: to the rows of a request.
            submitted: when they were given to the queue.
            endpoint: its name.
            rows: of the request.
        """
        span = get_current_span()
        if span.is_recording():
            span.set_attributes({"deepsparse.endpoint": endpoint, "deepsparse.texts": rows})
            # A request of several pieces shares batches with itself.
            for stages in dict.fromkeys(answered.stages):
                attributes = {"deepsparse.batch_texts": stages.rows}
                for name, start, end in (
                    ("queue", submitted, stages.begun),
                    ("tokenize", stages.begun, stages.tokenized),
                    ("engine", stages.tokenized, stages.done),
                ):
                    self._tracer.start_span(name, attributes=attributes, start_time=start).end(
                        max(start, end)
                    )
        return answered.outputs

    @staticmethod
    def finish_rpc(span: Any, code: int) -> None:
        """State the status of a gRPC request; those that are the server's fault are errors."""
        span.set_attribute("rpc.grpc.status_code", code)
        if code in _RPC_FAULTS:
            span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        """Send what is not sent yet; takes seconds where the collector does not answer."""
        self._provider.shutdown()


class TraceRequests:
    """Middleware that traces requests over HTTP, but for those of probes and of Prometheus."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        headers = {name: sent[name] for name in _HEADERS if name in sent}
        attributes = {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope["scheme"]}
        with self._tracing.request(method, headers, attributes) as span:
            try:
                await self._app(scope, receive, partial(_sent, send, span))
            except Exception:
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                if (route := _route(scope)) is not None:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)


async def _sent(send: Send, span: Any, message: Message) -> None:
    if message["type"] == "http.response.start":
        span.set_attribute("http.response.status_code", message["status"])
        if message["status"] >= 500:
            span.set_status(StatusCode.ERROR)
    await send(message)


def _route(scope: Scope) -> str | None:
    """The route that answered; None where there is none."""
    if endpoint_of(scope) is not None:
        return "/v2/models/{name}/infer"  # it never reaches the list of routes
    path = getattr(scope.get("route"), "path", None)
    return None if path is None else path.replace(":path}", "}")


def exporting(url: str) -> Tracing:
    """Traces that are sent to a collector over OTLP/HTTP; OTEL_* variables say the rest (names, headers, sampling).

    Args:
        url: such as http://localhost:4318/v1/traces.

    Raises:
        ModuleNotFoundError: the SDK or the exporter is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": _NAME}
    provider = TracerProvider(resource=Resource.create({"service.version": __version__, **named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return Tracing(provider)
