"""The Open Inference Protocol, and the routes of vLLM and Text Embeddings Inference, against the pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from deepsparse import InputError, Pipeline
from deepsparse.server import open_inference
from deepsparse.server.app import create_app
from deepsparse.server.config import parse_config
from deepsparse.server.endpoints import Endpoints
from deepsparse.server.service import Server
from deepsparse.tasks.text_classification import TextClassification, TextClassificationOutput
from support.deployment import NAMES

INFER = "/v2/models/mood/infer"
TEXTS = ["happy", "sad film", "furious"]


@pytest.fixture(scope="module")
def served(deployed: Path) -> Iterator[TestClient]:
    config = parse_config({"endpoints": [{"task": "glue", "model": str(deployed), "name": "mood"}]}, "test")
    with TestClient(create_app(Server(Endpoints(config), config))) as ready:
        yield ready


@pytest.fixture(scope="module")
def pipeline(deployed: Path) -> Any:
    return Pipeline.create("glue", deployed)


def tensor(data: list[Any], shape: list[int] | None = None, name: str = "text") -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(data)], "data": data}


def packed(texts: list[str]) -> bytes:
    return b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)


def test_texts_in_labels_and_scores_out(served: TestClient, pipeline: Any):
    answer = served.post(INFER, json={"id": "7", "inputs": [tensor(TEXTS)]})
    assert answer.status_code == 200
    expected = pipeline(TEXTS)
    assert answer.json() == {
        "model_name": "mood",
        "id": "7",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [3], "data": expected.labels},
            {"name": "score", "datatype": "FP32", "shape": [3], "data": pytest.approx(expected.scores)},
        ],
    }


@pytest.mark.parametrize(
    "inputs",
    [
        [tensor(["happy", "very", "sad", "film"], [2, 2])],
        [tensor([["happy", "very"], ["sad", "film"]], [2, 2])],
        [tensor(["happy", "sad"], name="a"), tensor(["very", "film"], name="b")],
    ],
    ids=["flat", "nested", "two tensors"],
)
def test_pairs(served: TestClient, pipeline: Any, inputs: list[Any]):
    outputs = served.post(INFER, json={"inputs": inputs}).json()["outputs"]
    expected = pipeline([["happy", "very"], ["sad", "film"]])
    assert outputs[0]["data"] == expected.labels
    assert outputs[1]["data"] == pytest.approx(expected.scores)


def test_options_and_chosen_outputs(served: TestClient, pipeline: Any):
    body = {"inputs": [tensor(TEXTS)], "parameters": {"top_k": 2}, "outputs": [{"name": "label"}]}
    (output,) = served.post(INFER, json=body).json()["outputs"]
    assert output["shape"] == [3, 2]
    expected = Pipeline.create("glue", pipeline.model_path, top_k=2)(TEXTS)
    assert output["data"] == [label for row in expected.labels for label in row]


@pytest.mark.parametrize("asked", [{"parameters": {"binary_data_output": True}}, {"outputs": None}])
def test_binary_tensors_both_ways(served: TestClient, pipeline: Any, asked: dict[str, Any]):
    """Triton's extension: tensors follow the JSON, whose length a header says."""
    if "outputs" in asked:
        asked = {
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in ("label", "score")]
        }
    data = packed(TEXTS)
    described = {key: value for key, value in tensor(TEXTS).items() if key != "data"}
    text = json.dumps(
        {"inputs": [{**described, "parameters": {"binary_data_size": len(data)}}], **asked}
    ).encode()
    answer = served.post(INFER, content=text + data, headers={open_inference.LENGTH_HEADER: str(len(text))})
    assert answer.status_code == 200
    length = int(answer.headers[open_inference.LENGTH_HEADER])
    outputs = json.loads(answer.content[:length])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    labels, scores = answer.content[length : length + sizes[0]], answer.content[length + sizes[0] :]
    expected = pipeline(TEXTS)
    assert labels == packed(expected.labels)
    np.testing.assert_allclose(np.frombuffer(scores, "<f4"), expected.scores, rtol=1e-6)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_binary_texts_are_read_as_they_are_written(texts: list[str]):
    described = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]}
    data = open_inference.packed(open_inference.Tensor("text", "BYTES", [len(texts)], texts, True))
    fields = {"inputs": [{**described, "parameters": {"binary_data_size": len(data)}}]}
    read, _ = open_inference.read(fields, data, TextClassification)  # type: ignore[arg-type]
    assert read == {"sequences": texts}


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"inputs": "happy"}, "inputs is no list"),
        ({"inputs": []}, "one tensor"),
        ({"inputs": [{**tensor(["a"]), "datatype": "FP32"}]}, "texts are BYTES"),
        ({"inputs": [tensor(["a", "b"], [3])]}, "2 texts, but the shape [3]"),
        ({"inputs": [tensor([1])]}, "no text"),
        ({"inputs": [{**tensor(["a"]), "name": 3}]}, "no name"),
        ({"inputs": [tensor(["a"]), tensor(["b"])]}, "no name of its own"),
        ({"inputs": [{**tensor(["a"]), "shape": [-1]}]}, "no shape"),
        ({"inputs": [tensor(["a"])], "parameters": {"sequences": 1}}, "no option"),
        ({"inputs": [tensor(["a"])], "outputs": [{"name": "logits"}]}, "the model gives label, score"),
        ({"inputs": [tensor(["a"])], "sequences": "b"}, "no field 'sequences'"),
        ({"inputs": [{**tensor(["a"]), "parameters": {"binary_data_size": 9}}]}, "more binary data"),
        ({"inputs": [tensor(["a"])], "id": 3}, "id is no text"),
    ],
)
def test_what_is_wrong_is_said_under_the_protocols_name(served: TestClient, body: Any, part: str):
    answer = served.post(INFER, json=body)
    assert answer.status_code == 422 and part in answer.json()["error"], answer.json()


@pytest.mark.parametrize("length", ["-1", "x", "999999", "9" * 40])
def test_a_length_that_is_none(served: TestClient, length: str):
    answer = served.post(INFER, content=b"{}", headers={open_inference.LENGTH_HEADER: length})
    assert answer.status_code == 422 and open_inference.LENGTH_HEADER in answer.json()["error"]


def test_errors_of_routes_have_that_name_too(served: TestClient):
    assert served.post("/v2/models/nobody/infer", json={}).json()["error"]
    assert served.get(INFER).json()["error"] and served.get("/nowhere").json()["error"]


def test_metadata_name_the_tensors(served: TestClient):
    described = served.get("/v2/models/mood").json()
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in described["outputs"]] == ["label", "score"]
    assert served.get("/v2").json()["extensions"] == ["binary_tensor_data"]


def test_rows_of_different_lengths_are_json():
    found = TextClassificationOutput([["a", "b"], []], [[0.5, 0.25], []])
    body, _ = open_inference.answer("m", open_inference.Asked(None, None, False), found)
    labels, scores = json.loads(body)["outputs"]
    assert labels == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ['["a", "b"]', "[]"]}
    assert [json.loads(row) for row in scores["data"]] == [[0.5, 0.25], []]
    with pytest.raises(InputError, match="label, score"):
        open_inference.answer("m", open_inference.Asked(None, {"x": False}, False), found)


def test_as_vllm_classifies(served: TestClient, pipeline: Any):
    answer = served.post("/classify", json={"model": "mood", "input": TEXTS}).json()
    assert [row["label"] for row in answer["data"]] == pipeline(TEXTS).labels
    assert [row["index"] for row in answer["data"]] == [0, 1, 2] and answer["object"] == "list"
    logits = pipeline.logits(TEXTS)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([row["probs"] for row in answer["data"]], shares, rtol=1e-5)
    assert answer["usage"]["total_tokens"] == sum(
        len(encoding.ids) for encoding in pipeline.run(TEXTS).encodings
    )
    assert served.post("/classify", json={"input": "happy"}).json()["data"][0]["label"] == "joy"
    assert served.post("/classify", json={"model": "other", "input": "a"}).status_code == 404


def test_as_text_embeddings_inference_predicts(served: TestClient, pipeline: Any):
    one = served.post("/predict", json={"inputs": "happy", "truncate": True}).json()
    assert {entry["label"] for entry in one} == set(NAMES) and one[0]["label"] == "joy"
    assert [entry["score"] for entry in one] == sorted((entry["score"] for entry in one), reverse=True)
    pair = served.post("/predict", json={"inputs": ["happy", "film"]}).json()
    batch = served.post("/predict", json={"inputs": [["happy"], ["happy", "film"]]}).json()
    assert batch[0][0]["label"] == "joy" and [entry["label"] for entry in batch[1]] == [
        entry["label"] for entry in pair
    ]
    np.testing.assert_allclose(*([entry["score"] for entry in row] for row in (batch[1], pair)), rtol=1e-6)
    raw = served.post("/predict", json={"inputs": "happy", "raw_scores": True}).json()
    np.testing.assert_allclose(
        [entry["score"] for entry in raw], np.sort(pipeline.logits(["happy"])[0])[::-1], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("/classify", {"input": [1, 2]}, "input is wanted"),
        ("/classify", {"model": 3, "input": "a"}, "model is no text"),
        ("/classify", {"inputs": "a"}, "no field 'inputs'"),
        ("/predict", {"inputs": []}, "inputs is wanted"),
        ("/predict", {"inputs": [["a", "b", "c"]]}, "inputs is wanted"),
        ("/predict", {"inputs": "a", "raw_scores": 1}, "raw_scores"),
        ("/predict", {"inputs": "  "}, "empty"),
    ],
)
def test_wrong_bodies_of_others_are_refused(served: TestClient, path: str, body: Any, part: str):
    answer = served.post(path, json=body)
    assert answer.status_code == 422 and part in answer.json()["detail"], answer.json()
