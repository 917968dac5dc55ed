"""Connections: what clients may not do to them, so that other clients are served and the memory stays flat.

uvicorn limits neither the size of a request's head, nor the time that a request takes to arrive, nor how many requests
a client sends ahead; and it writes its answer to garbage before the answers to the requests ahead of it. This is its
protocol on httptools with these limits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deepsparse.server.metrics import Metrics
from deepsparse.server.refusal import refusal

_MOST_HEAD_BYTES: Final = 64 * 1024
# Requests that a client may send ahead of their answers.
_MOST_AHEAD: Final = 16
_EVERY_S: Final = 1.0
# A refused client may read its answer for so long; closing at once would have the system discard it.
_LINGER_S: Final = 2.0
# At a shutdown, requests that are on their way come within this time; they are answered, and the connection is closed.
_LAST_REQUESTS_S: Final = 0.5
# Of models, libraries and the log.
_OTHER_FILES: Final = 128
_REFUSALS: Final = {
    "head": (431, "Request Header Fields Too Large", f"The head is larger than {_MOST_HEAD_BYTES:,} bytes."),
    "slow": (408, "Request Timeout", "The request took too long to arrive."),
    "garbage": (400, "Bad Request", "This is no HTTP request."),
}


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of a server's connections.

    Attributes:
        most: connections at a time.
        request_timeout: seconds in which a request has to arrive whole, from the connection or its first byte on.
    """

    most: int
    request_timeout: float


class Connections:
    """The connections of a server; `protocol` is uvicorn's setting `http`.

    Attributes:
        limits: of each.
        open: how many there are.
    """

    def __init__(self, limits: ConnectionLimits, metrics: Metrics) -> None:
        self.limits = limits
        self.open = 0
        self._metrics = metrics
        # Those that wait for their client, and since when: the longest first.
        self._waiting: OrderedDict[Connection, float] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        # A line for each piece of garbage would let anybody fill the disk; it is counted.
        logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)

    def protocol(self, *arguments: Any, **settings: Any) -> Connection:
        """A new connection, with uvicorn's arguments."""
        return Connection(self, *arguments, **settings)

    def opened(self, connection: Connection) -> None:
        """Take a connection in; where that is one too many, end the one that waits for the longest time."""
        self.open += 1
        self.awaits(connection)
        if self.open > self.limits.most:
            self.refused("crowded")
            self._waiting.popitem(last=False)[0].end()

    def closed(self, connection: Connection, unanswered: bool) -> None:
        """Let a connection go."""
        self.open -= 1
        self.served(connection)
        if unanswered:
            self._metrics.disconnects.inc()

    def awaits(self, connection: Connection, already: float = 0.0) -> None:
        """It is the client's turn now, and has been for `already` seconds."""
        self._waiting[connection] = time.monotonic() - already
        self._waiting.move_to_end(connection, last=already == 0.0)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_EVERY_S, self._end_overdue)

    def served(self, connection: Connection) -> None:
        """It is the server's turn."""
        self._waiting.pop(connection, None)

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._metrics.refused.labels(reason).inc()

    def _end_overdue(self) -> None:
        self._sweep = None
        latest = time.monotonic() - self.limits.request_timeout
        while self._waiting and next(iter(self._waiting.values())) < latest:
            self._waiting.popitem(last=False)[0].give_up()
        if self._waiting:
            self._sweep = asyncio.get_running_loop().call_later(_EVERY_S, self._end_overdue)


class Connection(HttpToolsProtocol):  # type: ignore[misc]
    """One client's connection."""

    def __init__(self, all_of_them: Connections, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._all = all_of_them
        self._head_bytes = 0
        self._in_head = False
        self._deaf = False  # what still comes is discarded
        self._stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        cut_short = self._in_head or (self.cycle is not None and not self.cycle.response_complete)
        self._all.closed(self, unanswered=cut_short and not self._deaf)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse("head")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._all.awaits(self)

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MOST_HEAD_BYTES:
            self._refuse("head")
        elif len(self.pipeline) >= _MOST_AHEAD:
            self._all.refused("pipelined")
            self._last_is_latest()
        else:
            super().on_headers_complete()
            if self._stopping:
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._deaf:
            super().on_message_complete()
            if self._is_answering():
                self._all.served(self)

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last:
            self._all.awaits(self)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what its parser refuses."""
        if not self._deaf:
            self._refuse("garbage")

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: the request is answered as if it had not asked, and is no reason for lines in the log."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.awaits(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_answering():
            self._all.served(self)

    def shutdown(self) -> None:
        """Close when all is answered that is on its way."""
        self._stopping = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_LAST_REQUESTS_S, self._shut_down_now)
        else:
            super().shutdown()

    def end(self) -> None:
        """Close it, and insist where its client does not take what was sent."""
        self.transport.close()
        self._linger()

    def give_up(self) -> None:
        """Close it, since its client took too long."""
        if self.transport.is_closing() or self._deaf:
            self.transport.abort()
        elif self._in_head or (self.cycle is not None and self.cycle.more_body):
            self._refuse("slow")
        else:
            self.end()

    def _shut_down_now(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _refuse(self, reason: str) -> None:
        """Answer what cannot be taken, behind the answers to what came before, and hear no more of this client."""
        self._all.refused(reason)
        cycle = self.cycle
        if self._is_answering():
            self._last_is_latest()
            return
        if self.pipeline:  # a body that is cut short, behind requests that are not answered yet
            self.end()
            return
        self._deaf, self._in_head = True, False
        status, title, words = _REFUSALS[reason]
        body = json.dumps(refusal(words))
        self.transport.write(
            f"HTTP/1.1 {status} {title}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"connection: close\r\n\r\n{body}".encode()
        )
        if cycle is not None and not cycle.response_complete:
            # The application waits for the rest of a body.
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger()

    def _is_answering(self) -> bool:
        """Whether the latest request is whole, or is being answered already, and its answer is not."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or not cycle.more_body

    def _linger(self) -> None:
        self._all.awaits(self, already=max(self._all.limits.request_timeout - _LINGER_S, 0.0))

    def _last_is_latest(self) -> None:
        """Answer the requests up to now, and close."""
        self._deaf, self._in_head = True, False
        self.cycle.keep_alive = False


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return record.msg != "Invalid HTTP request received."


def most_connections(wanted: int) -> int:
    """As many connections as the limit on open files allows, which is raised as far as the system permits."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < enough:
        most = enough if hard == resource.RLIM_INFINITY else min(hard, enough)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft - _OTHER_FILES, 1))
