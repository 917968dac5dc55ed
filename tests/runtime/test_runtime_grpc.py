"""The Open Inference Protocol over gRPC, against the pipeline and against what HTTP answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("grpc", reason="grpcio is not installed: pip install 'resparse[grpc]'")

import grpc

from deepsparse import Pipeline
from deepsparse.server.cli import main
from deepsparse.server.config import ConfigError
from deepsparse.server.grpc_messages import METHODS, SERVICE, message
from deepsparse.server.grpc_server import serving
from support.deployment import NAMES
from support.grpc_serving import Client, asked, running
from support.serving import free_port
from support.serving import serving as process_serving

KEY = "s3cret-of-32-characters-or-so"
TEXTS = ["happy", "sad film", "furious"]


@pytest.fixture(scope="module")
def served(deployed: Path) -> Iterator[tuple[Any, int]]:
    with running(deployed, max_request_bytes=4096, max_queued_texts=8) as found:
        yield found


@pytest.fixture(scope="module")
def client(served: tuple[Any, int]) -> Iterator[Client]:
    made = Client(served[1])
    yield made
    made.channel.close()


@pytest.fixture(scope="module")
def pipeline(deployed: Path) -> Any:
    return Pipeline.create("glue", deployed)


def counted(server: Any, status: int) -> float:
    return server.endpoints.metrics.requests.labels("mood", str(status))._value.get()


def test_health_and_metadata(client: Client, pipeline: Any) -> None:
    assert client("ServerLive").live and client("ServerReady").ready
    assert client("ModelReady", name="mood").ready
    assert client("ServerMetadata").name == "deepsparse"
    described = client("ModelMetadata", name="mood")
    assert [(each.name, each.datatype, list(each.shape)) for each in described.inputs] == [
        ("text", "BYTES", [-1])
    ]
    assert [(each.name, each.datatype) for each in described.outputs] == [
        ("label", "BYTES"),
        ("score", "FP32"),
    ]
    assert described.platform.startswith(pipeline.engine.engine_type)


@pytest.mark.parametrize("raw", [False, True])
def test_texts_in_labels_and_scores_out_in_the_form_of_the_request(
    client: Client, pipeline: Any, raw: bool
) -> None:
    answer = client("ModelInfer", asked(TEXTS, raw=raw, id="7"))
    expected = pipeline(TEXTS)
    assert (answer.model_name, answer.id) == ("mood", "7")
    label, score = answer.outputs
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("label", "BYTES", [3]),
        ("score", "FP32", [3]),
    ]
    if raw:
        assert not label.contents.bytes_contents and not score.contents.fp32_contents
        assert np.frombuffer(answer.raw_output_contents[1], "<f4") == pytest.approx(expected.scores)
        first = expected.labels[0].encode()
        assert answer.raw_output_contents[0].startswith(len(first).to_bytes(4, "little") + first)
    else:
        assert not answer.raw_output_contents
        assert [each.decode() for each in label.contents.bytes_contents] == expected.labels
        assert list(score.contents.fp32_contents) == pytest.approx(expected.scores)


def test_pairs_and_chosen_outputs(client: Client, pipeline: Any) -> None:
    request = asked(["happy", "very", "sad", "film"], [2, 2])
    request.outputs.add(name="label")
    (label,) = client("ModelInfer", request).outputs
    found = [each.decode() for each in label.contents.bytes_contents]
    assert found == pipeline([["happy", "very"], ["sad", "film"]]).labels


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param", "string_param"])
def test_options_of_the_task(client: Client, kind: str) -> None:
    request = asked(["happy"])
    setattr(request.parameters["top_k"], kind, "2" if kind == "string_param" else 2)
    assert list(client("ModelInfer", request).outputs[0].shape) == [1, 2]


def test_a_number_with_a_fraction(client: Client) -> None:
    """Triton's messages have them; in KServe's they go into a string."""
    for kind, value in (("double_param", 0.9999), ("string_param", "0.9999")):
        request = asked(["happy"])
        setattr(request.parameters["min_score"], kind, value)
        assert client("ModelInfer", request).outputs[0].contents.bytes_contents[0].decode() not in NAMES


def wrong_request(which: str) -> Any:
    request = asked(TEXTS)
    if which == "numbers":
        request.inputs[0].datatype = "FP32"
    elif which == "shape":
        request.inputs[0].shape[:] = [2]
    elif which == "option":
        request.parameters["tpo_k"].int64_param = 2
    elif which == "outputs":
        request.outputs.add(name="lable")
    elif which == "not UTF-8":
        request.inputs[0].contents.bytes_contents[1] = b"\xff"
    elif which == "raw":
        request.raw_input_contents.extend([b"", b""])
    elif which == "empty":
        request = message("ModelInferRequest")(model_name="mood")
    elif which == "raw too long":
        request = asked(TEXTS, raw=True)
        request.raw_input_contents[0] += b"\xff\xff\xff\xff"
    elif which == "too many":
        request = asked(["happy"] * 9)
    return request


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("numbers", "of 'FP32'; texts are BYTES"),
        ("shape", "3 texts, but the shape"),
        ("option", "no option of this model"),
        ("outputs", "the model gives label, score"),
        ("not UTF-8", "not UTF-8"),
        ("raw", "has 2 tensors, inputs 1"),
        ("empty", "one tensor of texts"),
        ("raw too long", "longer than the data"),
        ("too many", "9 texts in one request"),
    ],
)
def test_what_is_wrong_is_said(client: Client, served: tuple[Any, int], which: str, said: str) -> None:
    before = sum(counted(served[0], status) for status in (413, 422))
    code, words = client.refusal("ModelInfer", wrong_request(which))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and said in words
    assert sum(counted(served[0], status) for status in (413, 422)) == before + 1


def test_an_unknown_model_a_large_message_and_an_unknown_method(client: Client) -> None:
    assert client.refusal("ModelInfer", model_name="mud")[0] is grpc.StatusCode.NOT_FOUND
    assert "'mood'" in client.refusal("ModelReady", name="mod")[1]
    assert client.refusal("ModelInfer", asked(["x" * 5000]))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    statistics = client.channel.unary_unary(f"/{SERVICE}/ModelStatistics")
    with pytest.raises(grpc.RpcError) as caught:
        statistics(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_full_queue_says_when_to_come_again(
    served: tuple[Any, int], client: Client, monkeypatch: Any
) -> None:
    endpoint = served[0].endpoints["mood"]
    go_on = threading.Event()
    compute = endpoint._batcher._compute
    monkeypatch.setattr(endpoint._batcher, "_compute", lambda rows: (go_on.wait(30), compute(rows))[1])
    # Of four texts each. Eight may wait, and the last idle stream takes up to eight at once; others take four.
    many = endpoint.pipeline.engine.num_streams + 4
    with ThreadPoolExecutor(many) as threads:
        futures = [threads.submit(client, "ModelInfer", asked(["happy"] * 4)) for _ in range(many)]
        wait(futures, 30, FIRST_COMPLETED)
        go_on.set()
        errors = [future.exception() for future in futures]
    refused = [error for error in errors if error is not None]
    assert 1 <= len(refused) < many
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert ("grpc-retry-pushback-ms", "1000") in [tuple(each) for each in refused[0].trailing_metadata()]


def test_a_defect_is_not_told_to_clients(
    served: tuple[Any, int], client: Client, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(rows: Any, **options: Any) -> Any:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(served[0].endpoints["mood"], "answer", broken)
    assert client.refusal("ModelInfer", asked(TEXTS)) == (grpc.StatusCode.INTERNAL, "Internal Server Error")
    assert "secret of the house" in caplog.text


def test_the_key_is_asked_for_before_anything_is_read(deployed: Path) -> None:
    with running(deployed, KEY) as (server, port):
        without = Client(port)
        assert without("ServerLive").live and without("ServerReady").ready
        for method in set(METHODS) - {"ServerLive", "ServerReady"}:
            assert without.refusal(method)[0] is grpc.StatusCode.UNAUTHENTICATED
        assert server.endpoints.metrics.refused.labels("key")._value.get() == 4
        assert (
            Client(port, authorization="Bearer other").refusal("ModelReady")[0]
            is grpc.StatusCode.UNAUTHENTICATED
        )
        assert len(Client(port, authorization=f"Bearer {KEY}")("ModelInfer", asked(TEXTS)).outputs) == 2


def test_what_is_accepted_is_answered_at_the_end(deployed: Path, pipeline: Any) -> None:
    begun = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        with running(deployed) as (server, port):
            client = Client(port)
            assert client("ServerLive").live
            batcher = server.endpoints["mood"]._batcher
            compute = batcher._compute

            def slow(rows: Any) -> Any:
                begun.set()
                threading.Event().wait(0.5)
                return compute(rows)

            batcher._compute = slow
            pending = threads.submit(client, "ModelInfer", asked(TEXTS))
            assert begun.wait(30)
        labels = pending.result(30).outputs[0].contents.bytes_contents
    assert [label.decode() for label in labels] == pipeline(TEXTS).labels
    assert client.refusal("ServerLive")[0] is grpc.StatusCode.UNAVAILABLE


def test_a_request_that_never_arrives_is_cut(deployed: Path) -> None:
    with running(deployed, longest=0.3, request_timeout=0.5) as (_, port):
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        never = threading.Event()
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(f"/{SERVICE}/ModelInfer")(iter(never.wait, True), timeout=30)
        never.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert Client(port)("ServerLive").live


def test_beside_http_by_the_command_line(deployed: Path, tmp_path: Path) -> None:
    port = free_port()
    words = ("--task", "glue", "--model_path", deployed, "--grpc-port", port)
    with process_serving(*words, log=tmp_path / "log") as http:
        client = Client(port)
        request = asked(TEXTS)
        request.model_name = "text_classification"
        labels = [
            label.decode() for label in client("ModelInfer", request).outputs[0].contents.bytes_contents
        ]
        _, answer = http.post("/v2/models/text_classification/infer", {"sequences": TEXTS})
        assert labels == answer["labels"]
        assert (
            'deepsparse_requests_total{endpoint="text_classification",status="200"} 2.0'
            in http.get("/metrics")[1]
        )
        assert f"serving gRPC on 127.0.0.1:{port}" in http.log.read_text()
    with pytest.raises(ConfigError, match="both 5543"):
        main(["--model_path", str(deployed), "--grpc-port", "5543"])


def test_two_servers_do_not_share_a_port(deployed: Path) -> None:
    async def again(server: Any, port: int) -> None:
        async with serving(server, "127.0.0.1", port, 1):
            pass

    with running(deployed) as (server, port), pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
        asyncio.run(again(server, port))
