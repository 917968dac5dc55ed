"""Requests generated from the server's own OpenAPI document: on a live server, and by both ways to inference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks as openapi_checks

from deepsparse.server.app import Server, create_app
from deepsparse.server.config import parse_config
from deepsparse.server.endpoints import Endpoints
from support.deployment import deployment
from support.serving import Running, serving

INFER = "/v2/models/mood/infer"
FEW = settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


def configuration(folder: Path) -> dict[str, Any]:
    model = deployment(folder / "models" / "mood")
    return {
        "endpoints": [{"task": "glue", "model": str(model), "name": "mood"}],
        "allow_endpoint_changes": True,
        "models_folder": str(folder / "models"),
        "integration": "sagemaker",
        "num_cores": 1,
        "max_request_bytes": 20_000,
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("openapi")
    config = folder / "config.yaml"
    config.write_text(json.dumps(configuration(folder)))
    with serving("--config_file", config, log=folder / "log") as running:
        yield running


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, TestClient]]:
    """The application as it is, and with FastAPI's own handling of inference."""
    parsed = parse_config(configuration(tmp_path_factory.mktemp("both")), "test")
    clients = [TestClient(create_app(Server(Endpoints(parsed), parsed), fast)) for fast in (True, False)]
    with clients[0], clients[1]:
        yield clients[0], clients[1]


@pytest.mark.slow
def test_the_live_server_keeps_to_its_document(server: Running) -> None:
    """No error of ours, no status and no body but those that are described, and nothing in the log."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tried = []
    for result in schema.get_all_operations():
        operation = result.ok()
        tried.append(f"{operation.method.upper()} {operation.path}")

        @FEW
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
        def valid(case: Any) -> None:
            if case.path.endswith("/benchmark"):
                case.body = {"sequences": ["a"], "seconds": 0.1}
            _named(case)
            case.call_and_validate(excluded_checks=_EXCLUDED)

        valid()
        if operation.body:

            @FEW
            @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
            def invalid(case: Any) -> None:
                _named(case)
                answer = case.call_and_validate(excluded_checks=_EXCLUDED)
                assert answer.status_code < 500

            invalid()
    assert f"POST {INFER.replace('mood', '{name}')}" in tried and "DELETE /endpoints" in tried
    assert server.post(INFER, {"sequences": "happy"})[1]["labels"] == ["joy"]
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def bodies() -> Any:
    """Valid and invalid bodies of a request for inference, from the document, and bytes that are no JSON."""
    parsed = parse_config({"endpoints": [{"task": "glue", "model": "none", "name": "mood"}]}, "test")
    endpoints: Any = None
    schema = schemathesis.openapi.from_dict(create_app(Server(endpoints, parsed)).openapi())
    operation = schema[INFER.replace("mood", "{name}")]["POST"]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    generated = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
    encoded = generated.map(lambda case: json.dumps(case.body, default=str).encode())
    return st.one_of(encoded, encoded.map(lambda body: body[:-1]), st.binary(max_size=50))


def test_the_fast_route_answers_as_fastapi_does(both: tuple[TestClient, TestClient], bodies: Any) -> None:
    fast, plain = both
    met = set()

    @settings(FEW, max_examples=120)
    @given(body=bodies, path=st.sampled_from([INFER, INFER, INFER, "/v2/models/mod/infer", INFER + "/"]))
    # Most generated bodies that are valid are those of other tasks.
    @example(body=b'{"sequences": "happy"}', path=INFER)
    def same(body: bytes, path: str) -> None:
        answers = [client.post(path, content=body, follow_redirects=False) for client in (fast, plain)]
        assert len({answer.status_code for answer in answers}) == 1, answers
        assert answers[0].content == answers[1].content
        kinds = [answer.headers.get("content-type") for answer in answers]
        assert kinds[0] == kinds[1]
        met.add(answers[0].status_code)

    same()
    assert {200, 400, 404, 422} <= met


# The server goes by the body alone: no content type, no header and no unknown query parameter is refused; and a body
# that its schema allows may still be none (an empty text, a task that is not there).
_EXCLUDED = [
    openapi_checks.negative_data_rejection,
    openapi_checks.positive_data_acceptance,
    openapi_checks.unsupported_method,
]


def _named(case: Any) -> None:
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = "mood"
