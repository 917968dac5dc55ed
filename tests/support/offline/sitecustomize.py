"""Imported by every Python whose path this folder is on: all of the network but loopback is refused, and recorded.

Names are not looked up either. `RESPARSE_NETWORK_LOG` names the file of what was asked for.
"""

from __future__ import annotations

import os
import socket
import traceback
from typing import Any

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
_connect, _connect_ex, _sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
_getaddrinfo = socket.getaddrinfo


def _refuse(address: object) -> None:
    with open(os.environ["RESPARSE_NETWORK_LOG"], "a", encoding="utf-8") as file:  # noqa: PTH123 - early and light
        file.write(f"{address!r}\n{''.join(traceback.format_stack(limit=12))}\n")
    raise ConnectionRefusedError(f"the network is off: {address!r}")


def _check(one: socket.socket, address: Any) -> None:
    if one.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOOPBACK):
        _refuse(address)


class _Socket(socket.socket):
    def connect(self, address: Any) -> None:
        _check(self, address)
        _connect(self, address)

    def connect_ex(self, address: Any) -> int:
        _check(self, address)
        return _connect_ex(self, address)

    def sendto(self, *arguments: Any) -> int:
        _check(self, arguments[-1])
        return _sendto(self, *arguments)


def _looked_up(host: Any, *arguments: Any, **keywords: Any) -> Any:
    text = host.decode() if isinstance(host, bytes) else host
    if text and not str(text).startswith(_LOOPBACK):
        _refuse(text)
    return _getaddrinfo(host, *arguments, **keywords)


socket.socket = _Socket  # type: ignore[misc]
socket.getaddrinfo = _looked_up
