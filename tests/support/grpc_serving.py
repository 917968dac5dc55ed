"""The server's gRPC service in a thread, on a free port of loopback, and a client of it. Needs grpcio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from deepsparse.server.config import parse_config
from deepsparse.server.endpoints import Endpoints
from deepsparse.server.grpc_messages import METHODS, SERVICE, message
from deepsparse.server.grpc_server import serving
from deepsparse.server.service import Server


class Client:
    """Calls the methods of the service by their names."""

    def __init__(self, port: int, **metadata: str) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._metadata = tuple(metadata.items())
        self._calls = {
            name: self.channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=message(f"{name}Request").SerializeToString,
                response_deserializer=message(f"{name}Response").FromString,
            )
            for name in METHODS
        }

    def __call__(self, method: str, request: Any = None, /, **fields: Any) -> Any:
        request = message(f"{method}Request")(**fields) if request is None else request
        return self._calls[method](request, metadata=self._metadata, timeout=30)

    def refusal(self, method: str, request: Any = None, /, **fields: Any) -> tuple[Any, str]:
        """Status and words of a request that is refused."""
        with pytest.raises(grpc.RpcError) as caught:
            self(method, request, **fields)
        return caught.value.code(), caught.value.details()


@contextmanager
def running(
    deployed: Path, api_key: str | None = None, tracing: Any = None, longest: float = 600, **config: Any
) -> Iterator[tuple[Any, int]]:
    """The server in a thread, and its port."""
    endpoint = {"task": "glue", "model": str(deployed), "name": "mood"}
    parsed = parse_config({"endpoints": [endpoint], **config}, "test")
    started: Future[tuple[Any, int, Any, Any]] = Future()

    async def serve() -> None:
        server = Server(Endpoints(parsed, tracing), parsed, api_key=api_key, tracing=tracing)
        stop = asyncio.Event()
        server.beside = beside = Holding(serving(server, "127.0.0.1", 0, 5, longest))
        async with server.lifespan(None):  # type: ignore[arg-type]
            started.set_result((server, beside.value, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    server, port, loop, stop = started.result(30)
    try:
        yield server, port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not thread.is_alive()


class Holding:
    """A context manager that keeps what another yields."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aenter__(self) -> None:
        self.value = await self._inner.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)


def asked(texts: list[str], shape: list[int] | None = None, raw: bool = False, **more: Any) -> Any:
    request = message("ModelInferRequest")(model_name="mood", **more)
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=shape or [len(texts)])
    encoded = [text.encode() for text in texts]
    if raw:
        request.raw_input_contents.append(
            b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
        )
    else:
        tensor.contents.bytes_contents.extend(encoded)
    return request
