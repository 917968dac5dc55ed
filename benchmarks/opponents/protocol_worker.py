"""Asks a server by the clients of Triton and KServe; run in an environment that has these (`pip install
"tritonclient[http]" kserve`), and nothing of this project.

    python protocol_worker.py URL MODEL < texts.json

Prints JSON: by client and way, the labels and scores that came back, and what an error is called.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np


def by_triton(address: str, model: str, texts: list[str], binary: bool) -> dict[str, Any]:
    """Labels and scores by tritonclient, with tensors as JSON or in binary."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    described = client.get_model_metadata(model)
    tensor = triton.InferInput(described["inputs"][0]["name"], [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
    wanted = [
        triton.InferRequestedOutput(output["name"], binary_data=binary) for output in described["outputs"]
    ]
    found = client.infer(model, [tensor], outputs=wanted, request_id="9")
    assert found.get_response()["id"] == "9"
    labels = [label.decode() if isinstance(label, bytes) else label for label in found.as_numpy("label")]
    return {"labels": labels, "scores": found.as_numpy("score").astype(float).tolist()}


def error_of_triton(address: str, model: str) -> str:
    """What tritonclient raises for a tensor of numbers."""
    import tritonclient.http as triton

    tensor = triton.InferInput("text", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    try:
        triton.InferenceServerClient(address).infer(model, [tensor])
    except triton.InferenceServerException as error:
        return str(error.message())
    raise AssertionError("a tensor of numbers was taken")


def by_kserve(url: str, model: str, texts: list[str]) -> dict[str, Any]:
    """Labels and scores by kserve's client."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    async def ask() -> dict[str, Any]:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, model)
        tensor = InferInput("text", [len(texts)], "BYTES", data=texts)
        request = InferRequest(model_name=model, infer_inputs=[tensor], request_id="9")
        found = await client.infer(url, request, model_name=model)
        given = {output.name: output.data for output in found.outputs}
        return {"labels": given["label"], "scores": given["score"]}

    return asyncio.run(ask())


def main(url: str, model: str) -> None:
    """Ask, and print."""
    texts = json.load(sys.stdin)
    address = url.removeprefix("http://")
    ways: dict[str, Callable[[], Any]] = {
        "tritonclient, JSON": lambda: by_triton(address, model, texts, binary=False),
        "tritonclient, binary": lambda: by_triton(address, model, texts, binary=True),
        "kserve": lambda: by_kserve(url, model, texts),
    }
    answers = {way: ask() for way, ask in ways.items()}
    versions = {package: version(package) for package in ("tritonclient", "kserve")}
    print(json.dumps({"answers": answers, "error": error_of_triton(address, model), "versions": versions}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
