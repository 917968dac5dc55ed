"""Traces of requests over HTTP and gRPC, in the memory of OpenTelemetry's SDK; and sent to a collector."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("opentelemetry.sdk", reason="the SDK is not installed: pip install 'resparse[otel]'")

from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from deepsparse.server.app import create_app
from deepsparse.server.cli import main
from deepsparse.server.config import ConfigError, parse_config
from deepsparse.server.endpoints import Endpoints
from deepsparse.server.service import Server
from deepsparse.server.tracing import Tracing
from support.serving import serving

INFER = "/v2/models/mood/infer"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
KEY = "s3cret-of-32-characters-or-so"


def tracing(**settings: Any) -> tuple[Tracing, InMemorySpanExporter]:
    provider, exporter = TracerProvider(**settings), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider), exporter


def client(deployed: Path, traced: Tracing | None, fast: bool = True, key: str | None = None) -> TestClient:
    config = parse_config({"endpoints": [{"task": "glue", "model": str(deployed), "name": "mood"}]}, "test")
    return TestClient(
        create_app(Server(Endpoints(config, traced), config, api_key=key, tracing=traced), fast)
    )


@pytest.fixture(scope="module", params=[True, False], ids=["fast route", "FastAPI's route"])
def served(
    deployed: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[TestClient, InMemorySpanExporter]]:
    traced, exporter = tracing()
    with client(deployed, traced, request.param) as ready:
        yield ready, exporter


def spans(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The span of the one request since the last call, and those within it."""
    found = exporter.get_finished_spans()
    exporter.clear()
    (whole,) = [span for span in found if span.kind is SpanKind.SERVER]
    return whole, [span for span in found if span is not whole]


def test_a_request_goes_on_with_its_callers_trace(served: tuple[TestClient, InMemorySpanExporter]) -> None:
    http, exporter = served
    exporter.clear()
    assert http.post(INFER, json={"sequences": ["happy", "sad"]}, headers=CALLER).status_code == 200
    whole, parts = spans(exporter)
    assert whole.name == "POST /v2/models/{name}/infer"
    assert format(whole.context.trace_id, "032x") == TRACE and format(whole.parent.span_id, "016x") == PARENT
    expected = {
        "http.request.method": "POST",
        "http.route": "/v2/models/{name}/infer",
        "http.response.status_code": 200,
        "url.path": INFER,
        "url.scheme": "http",
        "deepsparse.endpoint": "mood",
        "deepsparse.texts": 2,
    }
    assert dict(whole.attributes) == expected
    assert [part.name for part in parts] == ["queue", "tokenize", "engine"]
    assert {part.parent.span_id for part in parts} == {whole.context.span_id}
    # One ends where the next begins, and all lie within the request.
    times = [time for part in parts for time in (part.start_time, part.end_time)]
    assert times == sorted(times) and times[1] == times[2] and times[3] == times[4]
    assert whole.start_time <= times[0] and times[-1] <= whole.end_time
    assert parts[2].attributes["deepsparse.batch_texts"] == 2


def test_without_a_caller_each_is_a_trace_of_its_own(served: tuple[TestClient, InMemorySpanExporter]) -> None:
    http, exporter = served
    exporter.clear()
    for headers in ({}, {"traceparent": "rubbish"}):
        http.post(INFER, json={"sequences": "happy"}, headers=headers)
        assert spans(exporter)[0].parent is None


def test_a_long_request_has_the_stages_of_each_of_its_batches(
    served: tuple[TestClient, InMemorySpanExporter],
) -> None:
    http, exporter = served
    exporter.clear()
    answer = http.post(INFER, json={"sequences": ["happy", "sad"] * 80})
    assert answer.json()["labels"] == ["joy", "sadness"] * 80
    _, parts = spans(exporter)
    assert sum(part.attributes["deepsparse.batch_texts"] for part in parts if part.name == "engine") == 160


def test_refusals_probes_and_unknown_addresses(served: tuple[TestClient, InMemorySpanExporter]) -> None:
    http, exporter = served
    exporter.clear()
    for path in ("/v2/health/ready", "/health", "/metrics"):
        http.get(path)
    assert exporter.get_finished_spans() == ()
    http.post(INFER, json={"sequences": 3})
    whole, parts = spans(exporter)
    assert whole.attributes["http.response.status_code"] == 422 and parts == []
    assert whole.status.status_code is StatusCode.UNSET  # the client's mistake
    http.get("/nothing/here")
    whole, _ = spans(exporter)
    assert whole.name == "GET" and "http.route" not in whole.attributes  # names are few


def test_a_defect_is_an_error(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced, exporter = tracing()
    config = parse_config({"endpoints": [{"task": "glue", "model": str(deployed), "name": "mood"}]}, "test")
    endpoints = Endpoints(config, traced)
    monkeypatch.setattr(endpoints["mood"], "answer", lambda rows: 1 / 0)
    with TestClient(
        create_app(Server(endpoints, config, tracing=traced)), raise_server_exceptions=False
    ) as http:
        assert http.post(INFER, json={"sequences": "happy"}).status_code == 500
    assert spans(exporter)[0].status.status_code is StatusCode.ERROR


def test_requests_without_the_key_are_traced_too(deployed: Path) -> None:
    traced, exporter = tracing()
    with client(deployed, traced, key=KEY) as http:
        http.post(INFER, json={"sequences": "happy"})
    whole, _ = spans(exporter)
    assert whole.attributes["http.response.status_code"] == 401
    assert not any(KEY in str(value) for value in whole.attributes.values())


def test_what_is_not_sampled_is_not_recorded(deployed: Path) -> None:
    traced, exporter = tracing(sampler=ALWAYS_OFF)
    with client(deployed, traced) as http:
        assert http.post(INFER, json={"sequences": "happy"}).json()["labels"] == ["joy"]
    assert exporter.get_finished_spans() == ()


def test_off_nothing_is_loaded(deployed: Path) -> None:
    with client(deployed, None) as http:
        batcher = http.app.state.server.endpoints["mood"]._batcher
        assert batcher._compute.func.__name__ == "run"
        assert not any("Trace" in middleware.cls.__name__ for middleware in http.app.user_middleware)


def test_over_grpc(deployed: Path) -> None:
    grpc = pytest.importorskip("grpc")
    from support.grpc_serving import Client, asked, running

    traced, exporter = tracing()
    with running(deployed, tracing=traced) as (_, port):
        calls = Client(port, **CALLER)
        calls("ServerLive")
        calls("ModelReady", name="mood")
        calls("ModelInfer", asked(["happy"]))
        whole, parts = spans(exporter)
        assert whole.name == "inference.GRPCInferenceService/ModelInfer"
        assert format(whole.context.trace_id, "032x") == TRACE
        assert whole.attributes["rpc.grpc.status_code"] == 0
        assert [part.name for part in parts] == ["queue", "tokenize", "engine"]
        assert calls.refusal("ModelInfer", asked([""]))[0] is grpc.StatusCode.INVALID_ARGUMENT
    whole, _ = spans(exporter)  # a refusal may be there before its span has ended
    assert whole.attributes["rpc.grpc.status_code"] == 3
    assert whole.status.status_code is StatusCode.UNSET


def test_sent_to_a_collector(deployed: Path, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        words = ("--task", "glue", "--model_path", deployed, "--otlp-traces-endpoint", url)
        with serving(*words, log=tmp_path / "log") as http:
            assert http.post("/v2/models/text_classification/infer", {"sequences": "happy"})[0] == 200
        collector.shutdown()  # the server has stopped, and sent all
    names = {
        span.name
        for body in received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert names == {"POST /v2/models/{name}/infer", "queue", "tokenize", "engine"}


def test_an_address_that_is_no_url(deployed: Path) -> None:
    with pytest.raises(ConfigError, match="a URL is wanted"):
        main([str(deployed), "--otlp-traces-endpoint", "localhost:4317"])
