"""Who may use the server: its address, its key, what it tells, and which models can be loaded over HTTP."""

from __future__ import annotations

import hmac
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from deepsparse.server.api_key import OPEN, VARIABLE, read_api_key
from deepsparse.server.app import create_app
from deepsparse.server.cli import _parser, main
from deepsparse.server.config import ConfigError, EndpointConfig, parse_config
from deepsparse.server.endpoints import Endpoints
from deepsparse.server.service import Server
from resparse.errors import UserError
from support.deployment import deployment

KEY = "s3cret-of-32-characters-or-so"
INFER = "/v2/models/mood/infer"


def application(config: dict[str, Any], api_key: str | None = None) -> TestClient:
    parsed = parse_config(config, "test")
    return TestClient(create_app(Server(Endpoints(parsed), parsed, api_key=api_key)))


@pytest.fixture(scope="module")
def locked(deployed: Path) -> Iterator[TestClient]:
    endpoint = {"task": "glue", "model": str(deployed), "name": "mood"}
    with application({"endpoints": [endpoint], "integration": "sagemaker"}, KEY) as client:
        yield client


def every_route(client: TestClient) -> list[tuple[str, str]]:
    """Each method and path of the application, those outside its description too."""
    found = []
    for route in client.app.routes:
        path = re.sub(r"\{name:path\}", "mood", route.path)
        found += [(method, path) for method in route.methods or ()]
    return found


def test_every_route_but_health_asks_for_the_key(locked: TestClient) -> None:
    routes = every_route(locked)
    assert ("POST", INFER) in routes and ("GET", "/docs") in routes and ("GET", "/metrics") in routes
    for method, path in routes:
        answer = locked.request(method, path, content=b"{}")
        assert (answer.status_code == 401) == (path not in OPEN), (method, path)
    assert {path for _, path in routes} >= OPEN
    for path in ("/nothing", "/v2/models/other/infer", "//v2/health/live", "/v2/health/live/"):
        assert locked.post(path).status_code == 401
    refused = locked.post(INFER, json={"sequences": "happy"})
    assert "API key" in refused.json()["detail"]
    assert {value.partition(" ")[0] for value in refused.headers.get_list("www-authenticate")} == {
        "Bearer",
        "Basic",
    }


def test_the_key_opens(locked: TestClient) -> None:
    body = {"sequences": "happy"}
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert locked.post(INFER, json=body, headers=bearer).json()["labels"] == ["joy"]
    assert locked.post(INFER, json=body, auth=("anybody", KEY)).status_code == 200
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/config", "/v2"):
        assert locked.get(path, headers=bearer).status_code == 200
    metrics = locked.get("/metrics", headers=bearer).text
    assert re.search(r'deepsparse_refused_total\{reason="key"\} [1-9]', metrics)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY} {KEY}",
        f"Bearer {KEY.upper()}",
        KEY,
        f"Digest {KEY}",
        f"Basic {KEY}",
        "Basic !!!",
        "Bearer \xff\xfe",
    ],
)
def test_anything_else_does_not(locked: TestClient, value: str) -> None:
    headers = [("Authorization", value.encode("latin-1"))]
    assert locked.post(INFER, json={"sequences": "happy"}, headers=headers).status_code == 401


def test_two_headers_are_one_too_many(locked: TestClient) -> None:
    """A proxy and the server could each go by another one."""
    headers = [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")]
    assert locked.get("/v2", headers=headers).status_code == 401


def test_it_is_compared_in_constant_time(locked: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the one function for that, on digests of one length, whatever was sent."""
    seen: list[tuple[int, int]] = []
    genuine = hmac.compare_digest

    def noted(sent: bytes, known: bytes) -> bool:
        seen.append((len(sent), len(known)))
        return genuine(sent, known)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    for value in ("Bearer a", f"Bearer {KEY}", "Basic !", "nonsense " * 50):
        locked.get("/v2", headers={"Authorization": value})
    assert seen == [(32, 32)] * 4


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of-the-file\n")
    assert read_api_key(None, str(file), {VARIABLE: "other"}) == "of-the-file"
    assert read_api_key("given", None, {VARIABLE: "other"}) == "given"
    assert read_api_key(None, None, {VARIABLE: "of-the-environment\n"}) == "of-the-environment"
    assert read_api_key(None, None, {}) is None


@pytest.mark.parametrize(
    ("given", "content", "environment", "part"),
    [
        ("", None, {}, "empty"),
        (None, " \n", {}, "empty"),
        (None, None, {VARIABLE: ""}, "empty"),
        ("two words", None, {}, "printable"),
        (None, "one\ntwo\n", {}, "one line"),
        ("schlüssel", None, {}, "ASCII"),
        ("a", "b", {}, "either"),
    ],
)
def test_a_key_that_would_leave_the_door_open(
    tmp_path: Path, given: str | None, content: str | None, environment: dict[str, str], part: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=part):
        read_api_key(given, str(file) if content is not None else None, environment)


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        main(["--api-key-file", str(tmp_path / "nowhere"), "model"])


def test_it_listens_to_this_machine_alone_unless_told_otherwise() -> None:
    assert _parser().parse_args([]).host == "127.0.0.1"


def test_the_document_says_what_asks_for_the_key(locked: TestClient) -> None:
    document = locked.get("/openapi.json", auth=("", KEY)).json()
    assert {name for entry in document["security"] for name in entry} == set(
        document["components"]["securitySchemes"]
    )
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert (operation.get("security") == []) == (path in OPEN)
            assert ("401" in operation["responses"]) == (path not in OPEN)


@pytest.mark.parametrize("file", ["page.html", "docs.html"])
def test_pages_load_nothing_from_elsewhere(locked: TestClient, file: str) -> None:
    text = files("deepsparse.server").joinpath(file).read_text(encoding="utf-8")
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", text)  # no address with a host, comments aside
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=(?!\"data:)", text)
    assert "innerHTML" not in text and "eval(" not in text
    answer = locked.get("/" if file == "page.html" else "/docs", auth=("", KEY))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "http" not in policy


def test_clients_are_told_names_and_no_paths(deployed: Path, tmp_path: Path) -> None:
    endpoint = {"task": "glue", "model": str(deployed), "name": "mood"}
    config = {"endpoints": [endpoint], "allow_endpoint_changes": True, "models_folder": str(tmp_path)}
    with application(config) as client:
        for path in ("/", "/docs", "/v2", "/v2/models/mood", "/config", "/metrics", "/openapi.json"):
            text = client.get(path).text
            assert str(deployed) not in text and str(tmp_path) not in text, path
        assert client.get("/v2").json()["models"][0]["model"] == deployed.parent.name
        assert client.get("/config").json()["endpoints"][0]["model"] == deployed.parent.name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("/srv/models/mood", "mood"),
        ("/srv/models/mood/", "mood"),
        ("/srv/mood/deployment", "mood"),
        ("/srv/mood/deployment/model.onnx", "mood"),
        ("/srv/mood/small.onnx", "small.onnx"),
        ("~/mood/deployment", "mood"),
        ("zoo:nlp/x/y", "zoo:nlp/x/y"),
        ("hf:team/mood", "hf:team/mood"),
    ],
)
def test_the_name_of_a_model(model: str, name: str) -> None:
    assert EndpointConfig(task="glue", model=model).model_name == name


def test_the_name_of_a_model_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for model, name in (
        (".", tmp_path.name),
        ("model.onnx", tmp_path.name),
        ("deployment", "deployment"),
        ("./deployment/model.onnx", "deployment"),
    ):
        assert EndpointConfig(task="glue", model=model).model_name == name


@pytest.fixture(scope="module")
def changeable(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    """A server whose endpoints may be changed; beside its folder of models lies another model."""
    root = tmp_path_factory.mktemp("changeable")
    folder = root / "models"
    deployment(folder / "good")
    deployment(folder / "lacking")
    (folder / "lacking" / "tokenizer.json").unlink()
    deployment(root / "outside")
    (folder / "link").symlink_to(root / "outside")
    (folder / "inside").symlink_to(folder / "good")
    (folder / "circle").symlink_to(folder / "circle")
    shutil.copytree(folder / "good", folder / "leaking")
    (folder / "leaking" / "config.json").unlink()
    (folder / "leaking" / "config.json").symlink_to(root / "outside" / "config.json")
    endpoint = {"task": "glue", "model": str(deployed), "name": "mood"}
    config = {
        "endpoints": [endpoint],
        "allow_endpoint_changes": True,
        "models_folder": str(folder),
        "num_cores": 1,
    }
    with application(config) as client:
        yield client, folder


@pytest.mark.parametrize(
    "model", ["good", "./good/", "good/model.onnx", "inside", "link/../good", "{folder}/good"]
)
def test_models_in_the_folder_can_be_added(changeable: tuple[TestClient, Path], model: str) -> None:
    client, folder = changeable
    asked = {"task": "glue", "model": model.format(folder=folder), "name": "more"}
    answer = client.post("/endpoints", json=asked)
    if ".." in model:  # by way of the link, that is beside the folder
        assert answer.status_code == 403
        return
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "good"
    assert client.post("/v2/models/more/infer", json={"sequences": "sad"}).status_code == 200
    assert client.request("DELETE", "/endpoints", json={"name": "more"}).status_code == 200
    assert client.post("/v2/models/more/infer", json={"sequences": "sad"}).status_code == 404


@pytest.mark.parametrize(
    "model",
    [
        "../outside",
        "good/../../outside",
        "{folder}/../outside",
        "{outside}",
        "{outside}/model.onnx",
        "link",
        "link/model.onnx",
        "leaking",
        "leaking/model.onnx",
        "circle",
        "/etc/passwd",
        "../nothing",
        "nothing",
        "~/models",
        "zoo:nlp/sentiment_analysis/obert-base/pytorch/huggingface/sst2/base-none",
        "hf:team/model",
        "huggingface:team/model",
        "good\0",
        "x" * 5000,
    ],
)
def test_no_others(changeable: tuple[TestClient, Path], model: str) -> None:
    client, folder = changeable
    outside = folder.parent / "outside"
    asked = {"task": "glue", "model": model.format(folder=folder, outside=outside), "name": "more"}
    answer = client.post("/endpoints", json=asked)
    assert answer.status_code == 403
    # The same words, whether there is something or not.
    assert "in this server's folder of models" in answer.json()["detail"]
    assert "more" not in [entry["name"] for entry in client.get("/v2").json()["models"]]


@pytest.mark.parametrize(
    ("kwargs", "status"),
    [
        ({"top_k": 2, "sequence_length": 16}, 200),
        ({"engine_type": "onnxruntime"}, 200),
        ({"engine_type": "/tmp/mine.py:Engine"}, 403),
        ({"engine_type": ["native"]}, 403),
        ({"num_cores": 64}, 403),
        ({"num_streams": 10_000}, 403),
        ({"model_path": "/etc"}, 403),
        ({"model": "/etc"}, 403),
        ({"tokenizer": "/etc"}, 403),
        ({"scheduler": "sync"}, 403),
    ],
)
def test_settings_that_run_or_read_something_else(
    changeable: tuple[TestClient, Path], kwargs: dict[str, Any], status: int
) -> None:
    client, _ = changeable
    asked = {"task": "glue", "model": "good", "name": "set", "kwargs": kwargs}
    assert client.post("/endpoints", json=asked).status_code == status


def test_what_is_wrong_with_a_model_is_said_without_its_path(changeable: tuple[TestClient, Path]) -> None:
    client, folder = changeable
    answer = client.post("/endpoints", json={"task": "glue", "model": "lacking"})
    assert answer.status_code == 422 and "tokenizer.json" in answer.json()["detail"]
    assert str(folder) not in answer.text


def test_a_page_of_another_site_changes_nothing(changeable: tuple[TestClient, Path]) -> None:
    client, _ = changeable
    asked = {"task": "glue", "model": "good", "name": "other"}
    for origin, status in (("https://evil.example", 403), ("null", 403), ("http://testserver", 200)):
        answer = client.post("/endpoints", json=asked, headers={"Origin": origin})
        assert answer.status_code == status, origin


def test_endpoints_change_over_http_only_where_allowed(deployed: Path, tmp_path: Path) -> None:
    endpoint = {"task": "glue", "model": str(deployed), "name": "mood"}
    with application({"endpoints": [endpoint], "models_folder": str(tmp_path)}) as client:
        for method in ("POST", "DELETE"):
            assert client.request(method, "/endpoints", json={**endpoint, "name": "a"}).status_code == 403
    for folder, part in ((None, "needs models_folder"), (str(tmp_path / "nowhere"), "there is no folder")):
        config = {"endpoints": [endpoint], "allow_endpoint_changes": True, "models_folder": folder}
        with pytest.raises(ConfigError, match=part):
            parse_config(config, "test")
