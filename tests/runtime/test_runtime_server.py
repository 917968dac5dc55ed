"""The server: its routes, what it refuses and how, its configuration, and how it stops."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from deepsparse import Pipeline
from deepsparse.server.app import create_app
from deepsparse.server.cli import main
from deepsparse.server.config import ConfigError, ServerConfig, load_config, parse_config
from deepsparse.server.endpoints import ConfigWatch, Endpoints
from deepsparse.server.service import Server
from resparse.errors import UserError
from support.deployment import NAMES
from support.serving import free_port, serving

INFER = "/v2/models/mood/infer"


def client(config: dict[str, Any]) -> TestClient:
    parsed = parse_config(config, "test")
    return TestClient(create_app(Server(Endpoints(parsed), parsed)))


@pytest.fixture(scope="module")
def served(deployed: Path) -> Iterator[TestClient]:
    endpoint = {"task": "glue", "model": str(deployed), "name": "mood"}
    limits = {"max_request_bytes": 4096, "max_queued_texts": 100}
    with client({"endpoints": [endpoint], "integration": "sagemaker", **limits}) as ready:
        yield ready


@pytest.mark.parametrize("sequences", ["happy", ["happy", "sad film"], [["happy"], ["sad", "film"]], []])
def test_it_answers_as_the_pipeline(served: TestClient, deployed: Path, sequences: Any):
    answer = served.post(INFER, json={"sequences": sequences})
    assert answer.status_code == 200
    expected = Pipeline.create("glue", deployed)(sequences)
    assert answer.json()["labels"] == expected.labels
    assert answer.json()["scores"] == pytest.approx(expected.scores)


def test_methods(served: TestClient):
    """Load balancers ask for HEAD; a GET where texts are posted says so, and blames no name."""
    for path in ("/health", "/v2/health/live", "/v2/health/ready"):
        assert served.head(path).status_code == served.get(path).status_code == 200
    answer = served.get(INFER)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "infer takes POST" in answer.json()["detail"]


def test_a_byte_order_mark_is_no_part_of_the_body(served: TestClient):
    answer = served.post(INFER, content=b'\xef\xbb\xbf{"sequences": "happy"}')
    assert answer.json()["labels"] == ["joy"]


def test_all_labels(served: TestClient):
    answer = served.post(INFER, json={"sequences": "happy", "top_k": 3}).json()
    assert sorted(answer["labels"][0]) == sorted(NAMES)
    assert sum(answer["scores"][0]) == pytest.approx(1)


@pytest.mark.parametrize(
    "path",
    ["/v2", "/v2/health/ready", "/v2/health/live", "/v2/models/mood", "/v2/models/mood/ready", "/ping"],
)
def test_information(served: TestClient, path: str):
    assert served.get(path).status_code == 200


def test_pages(served: TestClient):
    page = served.get("/")
    assert page.headers["content-type"].startswith("text/html")
    # It needs nothing from elsewhere.
    assert "http:" not in page.text and "https:" not in page.text
    assert "sequences" in json.dumps(served.get("/openapi.json").json()["paths"]["/v2/models/{name}/infer"])
    assert served.get("/config").json()["endpoints"][0]["name"] == "mood"


@pytest.mark.parametrize("path", ["/invocations", "/invocations/mood/infer"])
def test_sagemaker(served: TestClient, path: str):
    assert served.post(path, json={"sequences": "sad"}).json()["labels"] == ["sadness"]


def test_benchmark(served: TestClient):
    answer = served.post("/v2/models/mood/benchmark", json={"sequences": ["sad"], "seconds": 0.1})
    assert answer.json()["texts_per_second"] > 0
    assert served.post("/v2/models/mood/benchmark", json={"sequences": [], "seconds": 0.1}).status_code == 422
    assert served.post("/v2/models/mood/benchmark", json={"sequences": "a", "seconds": 99}).status_code == 422


def test_metrics(served: TestClient):
    served.post(INFER, json={"sequences": ["happy", "sad"]})
    served.post(INFER, content=b"x" * 5000)
    lines = dict(line.rsplit(" ", 1) for line in served.get("/metrics").text.splitlines() if line[:1] != "#")
    assert float(lines['deepsparse_requests_total{endpoint="mood",status="200"}']) >= 1
    assert float(lines['deepsparse_requests_total{endpoint="mood",status="413"}']) >= 1
    assert float(lines['deepsparse_texts_total{endpoint="mood"}']) >= 2
    assert lines['deepsparse_waiting_texts{endpoint="mood"}'] == "0.0"


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"", 400, "no JSON"),
        (b'{"sequences": "a', 400, "column"),
        (b'{"sequences": "a\x01b"}', 400, "control"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"[" * 100_000, 413, "4,096 bytes"),
        (b"[" * 4000, 400, "The body is"),
        (b"[]", 422, "object"),
        (b"{}", 422, "missing"),
        (b'{"sequence": "a"}', 422, "'sequences'"),
        (b'{"sequences": "a", "topk": 2}', 422, "'top_k'"),
        (b'{"sequences": "a", "top_k": 0}', 422, "top_k"),
        (b'{"sequences": "a", "top_k": true}', 422, "top_k"),
        (b'{"sequences": null}', 422, "null"),
        (b'{"sequences": 7}', 422, "a number"),
        (b'{"sequences": ["a", {"b": 1}]}', 422, "sequences[1]"),
        (b'{"sequences": ""}', 422, "empty"),
        (b'{"sequences": [" \\u0000"]}', 422, "sequences[0]"),
        (b'{"sequences": "\\ud800"}', 422, "surrogate"),
        (json.dumps({"sequences": "happy " * 1000}).encode(), 413, "4,096 bytes"),
        (json.dumps({"sequences": ["a"] * 101}).encode(), 413, "101 texts"),
    ],
)
def test_bad_requests(served: TestClient, body: bytes, status: int, part: str):
    answer = served.post(INFER, content=body)
    assert answer.status_code == status, answer.text
    assert part in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_a_body_of_unstated_length_is_limited_too(served: TestClient):
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    assert served.post(INFER, content=endless()).status_code == 413


def test_unknown_endpoints(served: TestClient):
    answer = served.post("/v2/models/mod/infer", json={"sequences": "a"})
    assert answer.status_code == 404 and "'mood'" in answer.json()["detail"]
    assert served.get("/v2/models/mod").status_code == 404
    assert served.get("/v2/models/mod/ready").status_code == 404


def test_a_full_queue_asks_to_come_back(served: TestClient, monkeypatch: pytest.MonkeyPatch):
    from deepsparse.server.queue import MicroBatcher

    genuine = MicroBatcher.submit

    async def full(self: MicroBatcher, rows: Any) -> Any:
        before = self.waiting
        self.waiting = 100
        try:
            return await genuine(self, rows)
        finally:
            self.waiting = before

    monkeypatch.setattr(MicroBatcher, "submit", full)
    answer = served.post(INFER, json={"sequences": "happy"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_a_model_that_does_not_answer_is_not_ready(deployed: Path, monkeypatch: pytest.MonkeyPatch):
    from deepsparse.server import endpoints

    monkeypatch.setattr(endpoints, "_FRESH_S", 0.0)
    monkeypatch.setattr(endpoints, "_PATIENCE_S", 0.1)
    with client({"endpoints": [{"task": "glue", "model": str(deployed), "name": "mood"}]}) as served:
        assert served.get("/v2/models/mood/ready").status_code == 200
        (endpoint,) = served.app.state.server.endpoints
        genuine = endpoint._batcher._compute
        monkeypatch.setattr(endpoint._batcher, "_compute", lambda rows: time.sleep(0.5) or genuine(rows))
        assert served.get("/v2/models/mood/ready").status_code == 503
        assert served.get("/v2/health/ready").json() == {"ready": False}
        assert served.get("/v2/health/live").status_code == 200


CONFIG = """\
num_cores: 1
endpoints:
  - task: text_classification
    model: {model}
    route: /team/mood
    bucketing: {{sequence_lengths: [16, 32]}}
  - task: sentiment-analysis
    model: {model}
    batch_size: 4
    kwargs: {{top_k: 2}}
"""


def test_several_endpoints(deployed: Path, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(model=deployed))
    config = load_config(path)
    with TestClient(create_app(Server(Endpoints(config), config))) as served:
        assert served.post("/v2/models/team/mood/infer", json={"sequences": "sad"}).json()["labels"] == [
            "sadness"
        ]
        assert served.get("/v2/models/team/mood").json()["sequence_length"] == 32
        answer = served.post("/v2/models/sentiment-analysis-1/infer", json={"sequences": "sad"})
        assert len(answer.json()["labels"][0]) == 2


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"endpoint": []}, "'endpoints'"),
        ({"endpoints": []}, "endpoints"),
        ({"endpoints": [{"task": "glue", "modle": "x"}]}, "'model'"),
        (
            {"endpoints": [{"task": "glue", "model": "x", "bucketing": {"sequence_length": [1]}}]},
            "'sequence_lengths'",
        ),
        ({"endpoints": [{"task": "glue", "model": "x", "batch_size": 0}]}, "endpoints[0].batch_size"),
        ({"endpoints": [{"task": "glue", "model": "x", "name": "a"}] * 2}, "'a'"),
        ({"endpoints": [{"task": "glue", "model": "x"}], "num_cores": "many"}, "num_cores"),
        ({"endpoints": [{"task": "glue", "model": "x"}], "integration": "openai"}, "sagemaker"),
    ],
)
def test_configurations_that_cannot_be_followed(change: dict[str, Any], part: str):
    with pytest.raises(ConfigError) as caught:
        parse_config(change, "config.yaml")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "--model_path"),
        (["--task", "glue", "--model_path", "nowhere"], "nowhere"),
        (["--task", "gleu", "--model_path", "x"], "glue"),
        (["--config_file", "nowhere.yaml"], "nowhere.yaml"),
        (["--modelpath", "x"], "--model-path"),
        (["--port", "0"], "port"),
        (["x", "--hot-reload-config"], "--config_file"),
    ],
)
def test_command_lines_that_make_no_sense(words: list[str], part: str):
    with pytest.raises(UserError, match=part):
        main(words)


def test_a_changed_configuration_is_followed(deployed: Path, tmp_path: Path):
    path = tmp_path / "config.yaml"

    def entry(name: str, model: Path | str = deployed) -> str:
        return f"  - {{task: glue, model: {model}, name: {name}}}\n"

    def written(*entries: str) -> ServerConfig:
        path.write_text("endpoints:\n" + "".join(entries))
        return load_config(path)

    async def work() -> None:
        config = written(entry("a"), entry("b"))
        endpoints = Endpoints(config)
        first = endpoints["a"]
        watching = asyncio.create_task(ConfigWatch(path, config, every=0.02).follow(endpoints))
        written(entry("a"), entry("c"))
        async with asyncio.timeout(20):
            while "b" in endpoints:
                await asyncio.sleep(0.02)
        assert "c" in endpoints and endpoints["a"] is first
        written(entry("a"), entry("d", "nowhere"))
        await asyncio.sleep(0.2)
        assert "a" in endpoints and "d" not in endpoints
        watching.cancel()
        await endpoints.close()

    asyncio.run(work())


def test_a_replaced_model_leaves_the_memory_at_once(deployed: Path):
    """Not only when cycles are collected: models that replace each other would pile up."""
    config = parse_config({"endpoints": [{"task": "glue", "model": str(deployed), "name": "a"}]}, "test")

    async def work() -> None:
        endpoints = Endpoints(config)
        (old,) = endpoints
        await old.answer(["happy"])
        reference = weakref.ref(old.pipeline)
        del old
        await endpoints.add(endpoints.load(config.endpoints[0]))
        assert reference() is None
        await endpoints.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(work())
    finally:
        gc.enable()


@pytest.mark.slow
def test_stopped_under_load_it_finishes_what_it_took(deployed: Path, tmp_path: Path):
    """SIGTERM, then SIGKILL: every answer is right, and all that fails is the connection."""
    port = free_port()
    texts = {"happy film": "joy", "sad film": "sadness", "furious": "anger"}
    answers: list[tuple[str, str]] = []
    wrong: list[Any] = []
    done = threading.Event()

    def load(running: Any) -> None:
        for text in list(texts) * 10_000:
            if done.is_set():
                return
            try:
                status, body = running.post("/v2/models/text_classification/infer", {"sequences": text})
            except (OSError, ConnectionError):
                continue  # refused, or cut before an answer
            except Exception as error:
                if type(error).__name__ in ("RemoteDisconnected", "BadStatusLine", "IncompleteRead"):
                    continue
                wrong.append(error)
                return
            if status == 200 and body["labels"] == [texts[text]]:
                answers.append((text, body["labels"][0]))
            elif status != 503:
                wrong.append((status, body))

    for stop in (signal.SIGTERM, signal.SIGKILL):
        with serving(deployed, log=tmp_path / "log", port=port) as running:
            done.clear()
            clients = [threading.Thread(target=load, args=[running]) for _ in range(8)]
            for thread in clients:
                thread.start()
            before = len(answers)
            while len(answers) < before + 50:
                time.sleep(0.01)
            running.process.send_signal(stop)
            running.process.wait(20)
        with serving(deployed, log=tmp_path / "log", port=port):
            before = len(answers)
            end = time.monotonic() + 20
            while len(answers) < before + 50 and time.monotonic() < end:
                time.sleep(0.01)
            assert len(answers) >= before + 50, "it does not answer after a restart"
            done.set()
            for thread in clients:
                thread.join()
    assert not wrong
    assert "Traceback" not in (tmp_path / "log").read_text()
