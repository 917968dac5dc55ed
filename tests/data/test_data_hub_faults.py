"""Datasets from a Hub that misbehaves, through the real clients, each in a process of its own.

Every case is a repository whose requests go wrong in one way. One child process reads them all; a second one,
with everything in order again, reads those that were refused; a third has the Hub switched off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.child import run_json
from support.hub import Fault, LoopbackHub
from support.hub_data import convert, parquet

pytestmark = pytest.mark.slow

CHILD = """
import json, sys
from sparseml.data import DataError, DataOptions, load_text_data

found = {}
for name in json.load(sys.stdin):
    try:
        data = load_text_data(DataOptions(dataset_name=name))
        found[name] = {"texts": data.train[:]["text"], "notes": data.notes}
    except DataError as error:
        found[name] = {"error": str(error)}
print(json.dumps(found))
"""
GOOD = ("cut", "slow", "busy", "busy-file", "out-of-order-file", "renamed", "script")
BAD = {
    "damaged": "arrived damaged: its sha256 is",
    "damaged-script": "arrived damaged: its sha256 is",
    "forbidden": "is closed to you (403). Ask its owner for access.",
    "out-of-order": "cannot be had just now: the Hub is out of order (503). No copy of an earlier download is here.",
    "asked-too-often": "was asked for too often from here (429). Try again in 900 seconds.",
    "breaks-off": "cannot be reached",
}
FILE = "data/train-00000-of-00001.parquet"


def rows(name: str) -> bytes:
    """A file that no other repository has, so that its place on the CDN is its own."""
    return parquet({"text": [f"{name} {index}" for index in range(2)], "label": [1, 0]})


def cdn(content: bytes) -> str:
    return f"/cdn/{hashlib.sha256(content).hexdigest()}"


def fill(hub: LoopbackHub) -> None:
    for name in (*GOOD, *BAD):
        if "script" in name:
            hub.add(f"owner/{name}", {f"{name}.py": b"raise SystemExit('never run')"}, "datasets")
            convert(hub, f"owner/{name}", {"default/train": rows(name), "default/validation": rows(name)})
        else:
            files = {FILE: rows(name), FILE.replace("train", "validation"): rows(name)}
            hub.add(f"owner/{name}", files, "datasets")
    hub.add(
        "new/home", {FILE: rows("renamed"), FILE.replace("train", "validation"): rows("renamed")}, "datasets"
    )
    hub.add("owner/renamed", {}, "datasets", renamed_to="new/home")


def faults() -> list[Fault]:
    now = {"Retry-After": "1"}
    return [
        Fault(cdn(rows("cut")), cut_after=100, times=1),
        Fault("/owner/slow", delay=0.2, times=3),
        Fault("/api/datasets/owner/busy?", status=429, headers=now, times=1),
        Fault("/owner/busy-file/resolve", status=429, headers=now, times=1),
        Fault(cdn(rows("out-of-order-file")), status=503, headers=now, times=2),
        Fault(cdn(rows("damaged")), corrupt=True),
        Fault(cdn(rows("damaged-script")), corrupt=True),
        Fault("/api/datasets/owner/forbidden", status=403),
        Fault("/api/datasets/owner/out-of-order?", status=503, headers={"Retry-After": "0"}),
        Fault("/api/datasets/owner/asked-too-often", status=429, headers={"Retry-After": "900"}),
        Fault("/api/datasets/owner/breaks-off", cut_after=10),
    ]


def read(environment: Mapping[str, str], names: Sequence[str]) -> dict[str, Any]:
    found = run_json(CHILD, [f"owner/{name}" for name in names], environment)
    return {name.removeprefix("owner/"): value for name, value in found.items()}


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        fill(running)
        yield running


@pytest.fixture(scope="module")
def environment(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return hub.environment(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def found(hub: LoopbackHub, environment: dict[str, str]) -> dict[str, Any]:
    hub.faults = faults()
    answers = read(environment, [*GOOD, *BAD])
    hub.faults = []
    return answers


def test_what_goes_wrong_for_a_while_is_waited_out(found: dict[str, Any]) -> None:
    assert {name: found[name].get("texts", found[name]) for name in GOOD} == {
        name: [f"{name} 0", f"{name} 1"] for name in GOOD
    }


@pytest.mark.parametrize("name", BAD)
def test_what_stays_wrong_is_said_in_one_line_that_names_the_dataset(
    found: dict[str, Any], name: str
) -> None:
    message = found[name]["error"]
    assert f"dataset owner/{name}" in message
    assert BAD[name] in message
    assert "\n" not in message


def test_nothing_damaged_stays_in_the_cache(
    hub: LoopbackHub, found: dict[str, Any], environment: dict[str, str]
) -> None:
    again = read(environment, ["damaged", "damaged-script"])
    assert again["damaged"]["texts"] == ["damaged 0", "damaged 1"]
    assert again["damaged-script"]["texts"] == ["damaged-script 0", "damaged-script 1"]


@pytest.mark.parametrize("without", ["switched off", "no network", "out of order"])
def test_without_the_hub_the_cache_answers(
    hub: LoopbackHub, found: dict[str, Any], environment: dict[str, str], without: str
) -> None:
    hub.faults = [Fault("/api/", status=503, headers={"Retry-After": "0"})]
    change = {
        "switched off": {"HF_HUB_OFFLINE": "1"},
        "no network": {"HF_ENDPOINT": "http://127.0.0.1:9"},
        "out of order": {},
    }
    before = len(hub.requests)
    names = ["cut", "script", "renamed", "forbidden"]
    again = read(environment | change[without], names)
    hub.faults = []
    for name in names[:3]:
        assert again[name].get("texts") == [f"{name} 0", f"{name} 1"], again[name]
        said = any("Using the copy of an earlier download." in note for note in again[name]["notes"])
        assert said == (without != "switched off")
    assert "No copy of an earlier download is here." in again["forbidden"]["error"]
    assert "dataset owner/forbidden" in again["forbidden"]["error"]
    assert (len(hub.requests) > before) == (without == "out of order")


def test_two_processes_may_fill_one_cache_at_once(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.faults = [Fault("/cdn/", delay=0.1)]
    shared = hub.environment(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(read, shared, ["cut", "script"]) for _ in range(2)]
        answers = [future.result() for future in both]
    hub.faults = []
    assert answers[0] == answers[1]
    assert answers[0]["cut"]["texts"] == ["cut 0", "cut 1"]
    assert answers[0]["script"]["texts"] == ["script 0", "script 1"]
    assert not list(tmp_path.rglob("*.part"))
