"""Clients that do not behave, on a live server: others are served, and the log stays short."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from support.raw_http import connect, read_all, request, statuses
from support.serving import Running, serving

INFER = "/v2/models/mood/infer"
TEXT = {"sequences": "happy"}


@pytest.fixture(scope="module")
def server(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = tmp_path_factory.mktemp("connections") / "config.yaml"
    config.write_text(
        f"request_timeout: 2\nmax_connections: 60\nnum_cores: 1\nmax_request_bytes: 4096\n"
        f"endpoints: [{{task: glue, model: {deployed}, name: mood}}]\n"
    )
    with serving("--config_file", config, log=config.with_name("log")) as running:
        yield running


def count(server: Running, name: str) -> float:
    text = server.get("/metrics")[1]
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def refused(server: Running, reason: str) -> float:
    return count(server, f'deepsparse_refused_total{{reason="{reason}"}}')


def lines(server: Running) -> list[str]:
    return server.log.read_text().splitlines()


def answers(server: Running) -> None:
    """Others are served."""
    begun = time.perf_counter()
    assert server.post(INFER, TEXT) == (200, {"labels": ["joy"], "scores": [pytest.approx(1, abs=0.1)]})
    assert time.perf_counter() - begun < 1


def test_a_client_that_goes_away_in_the_middle_of_its_body(server: Running) -> None:
    before, gone = lines(server), count(server, "deepsparse_disconnects_total")
    whole = request(INFER, TEXT)
    for cut in (10, len(whole) - 10, len(whole) - 1):  # in the head and in the body
        for path in (INFER, "/v2/models/mood/benchmark"):
            with connect(server.url) as client:
                client.sendall(request(path, TEXT)[:cut])
                time.sleep(0.02)
    answers(server)
    assert count(server, "deepsparse_disconnects_total") == gone + 6
    assert count(server, 'deepsparse_requests_total{endpoint="mood",status="499"}') == 2
    assert lines(server)[len(before) :] == []


def test_a_client_that_does_not_wait_for_its_answer(server: Running) -> None:
    before = lines(server)
    for _ in range(5):
        client = connect(server.url)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets
        client.sendall(request(INFER, TEXT))
        client.close()
    answers(server)
    assert lines(server)[len(before) :] == []


def test_requests_that_take_too_long(server: Running) -> None:
    """A head, and a body, byte by byte; and nothing at all: all closed after two to four seconds."""
    slow = refused(server, "slow")
    whole = request(INFER, TEXT)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server.url)) for _ in range(3)]
        head, body, silent = clients
        head.sendall(whole[:20])
        body.sendall(whole[:-12])
        begun = time.monotonic()
        for position in range(10):
            time.sleep(0.15)
            head.sendall(whole[20 + position :][:1])
            body.sendall(whole[-12 + position :][:1])
            answers(server)
        received = [read_all(client) for client in clients]
        assert 1.5 < time.monotonic() - begun < 6
    assert [statuses(answer) for answer in received] == [[408], [408], []]
    assert b"took too long" in received[0]
    assert silent and refused(server, "slow") == slow + 2


@pytest.mark.parametrize("is_one_line", [True, False])
def test_a_head_without_end(server: Running, is_one_line: bool) -> None:
    before = lines(server)
    piece = b"a" * 1000 if is_one_line else b"X-Name: " + b"a" * 990 + b"\r\n"
    with connect(server.url) as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + (b"X: " if is_one_line else b""))
        sent = 0
        while not select.select([client], [], [], 0.001)[0]:
            sent += client.send(piece)
            assert sent < 1_000_000
        assert statuses(client.recv(1000)) == [431]
    answers(server)
    assert lines(server)[len(before) :] == []


def test_a_large_head_is_refused_with_words(server: Running) -> None:
    with connect(server.url) as client:
        client.sendall(request("/v2", method="GET", headers=f"X: {'a' * 70_000}\r\n"))
        received = read_all(client)
    assert statuses(received) == [431] and b"65,536 bytes" in received
    with connect(server.url) as client:
        client.sendall(request("/v2", method="GET", headers=f"X: {'a' * 60_000}\r\nConnection: close\r\n"))
        assert statuses(read_all(client)) == [200]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage(server: Running, garbage: bytes) -> None:
    before = lines(server)
    with connect(server.url) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        received = read_all(client)
    assert all(status in (400, 404, 405) for status in statuses(received))
    answers(server)
    assert len(lines(server)) <= len(before) + 1


def test_garbage_behind_requests_does_not_cost_their_answers(server: Running) -> None:
    garbage = refused(server, "garbage")
    with connect(server.url) as client:
        client.sendall(request(INFER, TEXT) * 3 + b"\0\1garbage\r\n\r\n" * 50)
        received = read_all(client)
    assert statuses(received) == [200, 200, 200]
    assert received.count(b'"joy"') == 3
    assert refused(server, "garbage") == garbage + 1


def test_requests_sent_ahead(server: Running) -> None:
    """A few are answered, in their order; of very many some, and the connection is closed."""
    with connect(server.url) as client:
        client.sendall(request(INFER, TEXT) * 9 + request(INFER, TEXT, headers="Connection: close\r\n"))
        assert statuses(read_all(client)) == [200] * 10
    with connect(server.url) as client:
        client.sendall(request(INFER, TEXT) * 1000)
        received = read_all(client)
    assert set(statuses(received)) == {200} and 1 <= len(statuses(received)) < 100
    assert refused(server, "pipelined") >= 1


def test_idle_connections_make_room(server: Running) -> None:
    """There may be 60; of 200 the oldest are closed, and others are served all the while."""
    crowded = refused(server, "crowded")
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(server.url))
        answers(server)
    assert refused(server, "crowded") >= crowded + 139
    answers(server)


def test_a_client_that_does_not_read_is_let_go(server: Running) -> None:
    """Its answers fill the buffers between, and are not kept for ever."""
    gone = count(server, "deepsparse_disconnects_total")
    with connect(server.url) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        try:
            for _ in range(2000):
                client.sendall(request("/openapi.json", method="GET"))
                time.sleep(0.0005)
        except (TimeoutError, OSError):
            pass
        answers(server)
    assert count(server, "deepsparse_disconnects_total") >= gone


def test_an_upgrade_is_not_wanted(server: Running) -> None:
    before = lines(server)
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"
    with connect(server.url) as client:
        client.sendall(request("/v2/health/live", method="GET", headers=upgrade))
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert lines(server)[len(before) :] == []


def test_a_client_that_sends_too_much_reads_why(server: Running) -> None:
    status, answer = server.post(INFER, {"sequences": "happy " * 100_000})
    assert status == 413 and "4,096 bytes" in answer["detail"]
