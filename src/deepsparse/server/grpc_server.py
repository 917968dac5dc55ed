"""The Open Inference Protocol over gRPC: the service beside the routes of HTTP, with the same models, queue and key."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

# The C core writes notes of its own to stderr, in a format of its own; set before it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc

from deepsparse.errors import InputError
from deepsparse.server import open_inference
from deepsparse.server.api_key import ASKED, KeyCheck
from deepsparse.server.config import ConfigError
from deepsparse.server.endpoints import Endpoint
from deepsparse.server.grpc_messages import METHODS, SERVICE, message
from deepsparse.server.open_inference import Asked, Tensor
from deepsparse.server.queue import QueueFullError
from deepsparse.server.requests import parse_tensors
from deepsparse.server.service import Server, status_of
from deepsparse.tasks.base import TaskOutput
from resparse import __version__
from resparse.errors import UserError

_CODES: Final = {
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""By the status that HTTP would answer; of any other, INVALID_ARGUMENT."""

_OPEN: Final = frozenset({f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady"})
"""Methods that are answered without a key, as their routes of HTTP are."""

_CONTENTS: Final = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "INT64": "int64_contents"}
_MOST_DETAIL: Final = 1000  # characters: of an answer's trailers, clients take 8 KiB by default
_LONGEST_CONNECTION_S: Final = 600.0
_PING_S: Final = 10

_log = logging.getLogger("uvicorn.error")


@asynccontextmanager
async def serving(
    server: Server, host: str, port: int, grace: float, longest_connection: float = _LONGEST_CONNECTION_S
) -> AsyncIterator[int]:
    """Serve over gRPC within the block; at its end requests that have begun are answered. Yields the port.

    Args:
        server: what answers.
        host, port: to listen at; port 0 takes a free one.
        grace: seconds for the requests that have begun.
        longest_connection: seconds after which clients are told to connect again, which their libraries do by
            themselves; requests on the old connection have `request_timeout` seconds more, so that one that never
            arrives whole does not stay.

    Raises:
        ConfigError: the port is taken.
    """
    config = server.config
    listening = grpc.aio.server(
        interceptors=[] if server.api_key is None else [_AskForKey(server, server.api_key)],
        maximum_concurrent_rpcs=config.max_connections,
        options=[
            ("grpc.so_reuseport", 0),  # else a second server would take half of the requests
            ("grpc.max_receive_message_length", config.max_request_bytes),
            ("grpc.max_connection_age_ms", int(longest_connection * 1000)),
            ("grpc.max_connection_age_grace_ms", int(config.request_timeout * 1000)),
            ("grpc.keepalive_time_ms", int(config.request_timeout * 1000)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_S * 1000),
        ],
    )
    service = _Service(server)
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            service.handler(name),
            request_deserializer=message(f"{name}Request").FromString,  # type: ignore[attr-defined]
            response_serializer=message(f"{name}Response").SerializeToString,  # type: ignore[attr-defined]
        )
        for name in METHODS
    }
    listening.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    try:
        bound = listening.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise ConfigError(f"gRPC cannot listen at {host}:{port}; is another program there?") from error
    await listening.start()
    try:
        yield bound
    finally:
        await listening.stop(grace)


class _AskForKey(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses, before their message is read, requests without the key."""

    def __init__(self, server: Server, key: str) -> None:
        self._check = KeyCheck(key)
        self._refused = server.endpoints.metrics.refused.labels("key")

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, ASKED)

        self._refuse = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The handler of a request: its own, or one that refuses."""
        sent = [value for name, value in details.invocation_metadata if name == "authorization"]
        encoded = [value if isinstance(value, bytes) else value.encode() for value in sent]
        if details.method in _OPEN or self._check.knows(encoded):
            return await continuation(details)
        self._refused.inc()
        return self._refuse


class _Service:
    """The methods of the service, by their names."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def handler(self, name: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """The handler of a method: errors become statuses, and where requests are traced it is."""
        answer = getattr(self, name)

        async def handle(request: Any, context: Any) -> Any:
            try:
                return await answer(request)
            except UserError as error:
                code = _CODES.get(status_of(error), grpc.StatusCode.INVALID_ARGUMENT)
                await context.abort(code, " ".join(str(error).splitlines())[:_MOST_DETAIL], _trailers(error))
            except Exception:
                _log.exception("Exception in a gRPC request")
                await context.abort(grpc.StatusCode.INTERNAL, "Internal Server Error")

        tracing = self._server.tracing
        if tracing is None or name.endswith(("Live", "Ready")):
            return handle

        async def traced(request: Any, context: Any) -> Any:
            sent = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            attributes = {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": name}
            with tracing.request(f"{SERVICE}/{name}", sent, attributes) as span:
                try:
                    return await handle(request, context)
                finally:
                    code = context.code() or grpc.StatusCode.OK
                    tracing.finish_rpc(span, int(code.value[0] if hasattr(code, "value") else code))

        return traced

    async def ServerLive(self, request: Any) -> Any:  # noqa: N802
        return message("ServerLiveResponse")(live=True)

    async def ServerReady(self, request: Any) -> Any:  # noqa: N802
        return message("ServerReadyResponse")(ready=await self._server.endpoints.are_ready())

    async def ModelReady(self, request: Any) -> Any:  # noqa: N802
        endpoints = self._server.endpoints
        ready = not endpoints.closing and await endpoints[request.name].is_ready()
        return message("ModelReadyResponse")(ready=ready)

    async def ServerMetadata(self, request: Any) -> Any:  # noqa: N802
        extensions = list(open_inference.EXTENSIONS)
        return message("ServerMetadataResponse")(
            name="deepsparse", version=__version__, extensions=extensions
        )

    async def ModelMetadata(self, request: Any) -> Any:  # noqa: N802
        described = self._server.endpoints[request.name].describe()
        names = ("name", "platform", "inputs", "outputs")
        return message("ModelMetadataResponse")(**{name: described[name] for name in names})

    async def ModelInfer(self, request: Any) -> Any:  # noqa: N802
        async def received() -> Any:
            return request

        async def answered(endpoint: Endpoint, content: Any) -> Any:
            fields, binary = _fields(content)
            rows, options, asked = parse_tensors(fields, binary, endpoint.pipeline.handler)
            output = endpoint.pipeline.output(await endpoint.answer(rows, **options), **options)
            return _response(endpoint.name, asked, output, raw=bool(content.raw_input_contents))

        return await self._server.counted(request.model_name, received, answered)


def _fields(request: Any) -> tuple[dict[str, Any], bytes]:
    """A request in the form that it has over HTTP: JSON, and the binary tensors behind it."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InputError(
            f"raw_input_contents has {len(raw)} tensors, inputs {len(request.inputs)}: one is wanted of each."
        )
    inputs = []
    for place, tensor in enumerate(request.inputs):
        fields = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if raw:
            fields["parameters"] = {"binary_data_size": len(raw[place])}
        else:
            fields["data"] = _texts(tensor.contents.bytes_contents, f"inputs[{place}]")
        inputs.append(fields)
    asked = {
        "id": request.id,
        "parameters": {name: _parameter(value) for name, value in request.parameters.items()},
        "inputs": inputs,
        "outputs": [{"name": output.name} for output in request.outputs],
    }
    return asked, b"".join(raw)


def _texts(contents: list[bytes], where: str) -> list[str]:
    try:
        return [text.decode() for text in contents]
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: a text is not UTF-8.") from error


def _parameter(value: Any) -> Any:
    """The value of an option. KServe's messages have no floats and no lists: JSON in a string may hold them."""
    kind = value.WhichOneof("parameter_choice")
    given = getattr(value, kind) if kind is not None else None
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def _response(name: str, asked: Asked, output: TaskOutput, raw: bool) -> Any:
    """The answer: in the typed fields, or in binary, as the request came."""
    response = message("ModelInferResponse")(model_name=name, id=asked.id or "")
    for tensor in open_inference.tensors(asked, output):
        added = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            response.raw_output_contents.append(open_inference.packed(tensor))
        else:
            getattr(added.contents, _CONTENTS[tensor.datatype]).extend(_values(tensor))
    return response


def _values(tensor: Tensor) -> list[Any]:
    return [text.encode() for text in tensor.data] if tensor.datatype == "BYTES" else tensor.data


def _trailers(error: UserError) -> tuple[tuple[str, str], ...]:
    """When to come again: in milliseconds for libraries that retry by themselves, in seconds as over HTTP."""
    if not isinstance(error, QueueFullError):
        return ()
    seconds = error.retry_after
    return (("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(seconds * 1000)))
