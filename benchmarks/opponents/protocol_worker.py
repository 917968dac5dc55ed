"""Asks a server by the client of Triton or of KServe; run in an environment that has these (`pip install
"tritonclient[http,grpc]" kserve`), and nothing of this project.

    python protocol_worker.py tritonclient|kserve HTTP GRPC MODEL < texts.json

HTTP and GRPC are addresses, host:port. Prints JSON: by way, the labels and scores that came back, and what an error is
called.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np


def by_triton(addresses: Sequence[str], model: str, texts: list[str]) -> dict[str, Any]:
    """Answers over HTTP, with tensors as JSON and in binary, and over gRPC; and what a tensor of numbers raises."""
    import tritonclient.grpc
    import tritonclient.http

    http, grpc = addresses
    answers = {
        "tritonclient, HTTP, JSON": triton_answer(
            tritonclient.http, http, model, texts, {"binary_data": False}
        ),
        "tritonclient, HTTP, binary": triton_answer(
            tritonclient.http, http, model, texts, {"binary_data": True}
        ),
        "tritonclient, gRPC": triton_answer(tritonclient.grpc, grpc, model, texts, {}),
    }
    errors = {triton_error(tritonclient.http, http, model), triton_error(tritonclient.grpc, grpc, model)}
    assert len(errors) == 1, errors
    return {"answers": answers, "error": errors.pop()}


def triton_answer(
    triton: Any, address: str, model: str, texts: list[str], form: dict[str, bool]
) -> dict[str, Any]:
    """Labels and scores; health and metadata are asked for, too."""
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    is_grpc = triton.__name__.endswith("grpc")
    as_json = {"as_json": True} if is_grpc else {}
    assert client.get_server_metadata(**as_json)["name"] == "deepsparse"
    described = client.get_model_metadata(model, **as_json)
    tensor = triton.InferInput(described["inputs"][0]["name"], [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, dtype=object), **form)
    wanted = [triton.InferRequestedOutput(output["name"], **form) for output in described["outputs"]]
    found = client.infer(model, [tensor], outputs=wanted, request_id="9")
    response = found.get_response()
    assert (response.id if is_grpc else response["id"]) == "9"
    labels = [label.decode() if isinstance(label, bytes) else label for label in found.as_numpy("label")]
    best = client.infer(model, [tensor], parameters={"top_k": 2}).as_numpy("label")
    assert best.shape == (len(texts), 2)
    return {"labels": labels, "scores": found.as_numpy("score").astype(float).tolist()}


def triton_error(triton: Any, address: str, model: str) -> str:
    """What tritonclient raises for a tensor of numbers."""
    tensor = triton.InferInput("text", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    try:
        triton.InferenceServerClient(address).infer(model, [tensor])
    except Exception as error:
        return str(error.message())  # type: ignore[attr-defined]
    raise AssertionError("a tensor of numbers was taken")


def by_kserve(addresses: Sequence[str], model: str, texts: list[str]) -> dict[str, Any]:
    """Answers over HTTP and gRPC."""
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    http, grpc = addresses

    def asked() -> Any:
        tensor = InferInput("text", [len(texts)], "BYTES", data=texts)
        return InferRequest(model_name=model, infer_inputs=[tensor], request_id="9")

    def answer(found: Any) -> dict[str, Any]:
        assert found.id == "9"
        given = {output.name: output.data for output in found.outputs}
        labels = [label.decode() if isinstance(label, bytes) else label for label in given["label"]]
        return {"labels": labels, "scores": list(given["score"])}

    async def both() -> dict[str, Any]:
        url = f"http://{http}"
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, model)
        by_http = await client.infer(url, asked(), model_name=model)
        async with InferenceGRPCClient(grpc) as service:
            assert await service.is_server_live() and await service.is_server_ready()
            assert await service.is_model_ready(model)
            by_grpc = await service.infer(asked())
        return {"kserve, HTTP": answer(by_http), "kserve, gRPC": answer(by_grpc)}

    return {"answers": asyncio.run(both())}


def main(client: str, http: str, grpc: str, model: str) -> None:
    """Ask, and print."""
    ask = {"tritonclient": by_triton, "kserve": by_kserve}[client]
    found = ask((http, grpc), model, json.load(sys.stdin))
    print(json.dumps({**found, "version": version(client)}))


if __name__ == "__main__":
    main(*sys.argv[1:5])
