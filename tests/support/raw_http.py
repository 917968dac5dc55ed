"""HTTP as bytes on a socket, for clients that do not behave."""

from __future__ import annotations

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit


def connect(url: str, timeout: float = 10.0) -> socket.socket:
    """A connection to the server of a URL."""
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout)


def request(path: str, body: Any = None, method: str = "POST", headers: str = "") -> bytes:
    """A whole request; `headers` are lines that end in CRLF."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data
    )


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the server closes, or the connection is reset."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def statuses(received: bytes) -> list[int]:
    """The statuses of the responses in what was received, in their order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
