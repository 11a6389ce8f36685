"""Hostile and broken clients against the real server: it answers, and keeps serving the others."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from provider.sdk_http import httpx
from tests.server.live import Live, live
from tests.server.scripted import Pieces, Scripted, echoes, says, streams
from tests.server.wire import CHAT, closed, connected, head, post, replies

LIMITS: dict[str, Any] = {
    "sllm_max_body": 2**20,
    "sllm_read_timeout": 0.6,
    "sllm_write_timeout": 0.6,
    "sllm_drain_timeout": 1.0,
}


@pytest.fixture
def provider() -> Scripted:
    return Scripted({CHAT: echoes})


@pytest.fixture
def server(provider: Scripted) -> Iterator[Live]:
    with live(provider, **LIMITS) as running:
        yield running
        assert httpx.get(f"{running.url}/health").json() == {"status": "ok"}
        answer = httpx.post(f"{running.url}{CHAT}", json={"after": True})
        assert answer.status_code in (200, 429)


def test_a_body_of_fifty_megabytes(server: Live) -> None:
    answer = httpx.post(f"{server.url}{CHAT}", json={"text": "가" * 17_000_000}, timeout=60)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_a_declared_size_is_refused_before_the_body_is_sent(server: Live) -> None:
    with connected(server.port) as sock:
        sock.sendall(head(CHAT, "POST", "expect: 100-continue", length=10**12))
        (reply,) = replies(sock)
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


def test_a_chunked_body_without_end(server: Live) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with connected(server.port) as sock:
        sock.sendall(head(CHAT, "POST", "transfer-encoding: chunked"))
        for _ in range(17):
            sock.sendall(chunk)
        (reply,) = replies(sock)
        assert reply.status == 413
        assert closed(_flooded(sock, chunk)), "a body that nobody wants is read for ever"


def _flooded(sock: socket.socket, chunk: bytes) -> socket.socket:
    def flood() -> None:
        try:
            while True:
                sock.sendall(chunk)
        except OSError:
            return

    threading.Thread(target=flood, daemon=True).start()
    return sock


def test_a_body_that_stops_arriving(server: Live) -> None:
    with connected(server.port) as sock:
        sock.sendall(head(length=100) + b'{"a":')
        (reply,) = replies(sock)
        assert (reply.status, reply.error["code"]) == (408, "request_timeout")
        assert closed(sock)


def test_a_head_that_drips(server: Live) -> None:
    with connected(server.port) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ")
        (reply,) = replies(sock)
        assert (reply.status, reply.error["code"]) == (408, "request_timeout")
        assert closed(sock)


def test_a_connection_that_says_nothing(server: Live) -> None:
    with connected(server.port) as sock:
        assert closed(sock)


def test_empty_lines_for_ever_keep_no_connection(server: Live) -> None:
    with connected(server.port) as sock:
        sock.sendall(b"\r\n" * 1000)
        assert closed(sock)


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (head(CHAT, "GET", *[f"x-{n}: {n}" for n in range(1000)]), 431, None),
        (head(CHAT, "GET", "x-long: " + "v" * 200_000), 431, None),
        (b"GET / HTTP/1.1\r\nx-endless: " + b"v" * 1_000_000, 431, None),
        (head("/v1/" + "a" * 20_000, "GET"), 414, "uri_too_long"),
        (b"GET /" + b"a" * 1_000_000, 414, "uri_too_long"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400, "invalid_http"),
        (b"nonsense\r\n\r\n", 400, "invalid_http"),
        (b"FROB / HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, "invalid_http"),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, "invalid_http"),
        (head(CHAT, "POST", "content-length: -1"), 400, "invalid_http"),
        (head(CHAT, "POST", "content-length: 1", "content-length: 2"), 400, "invalid_http"),
        (head(CHAT, "POST", "transfer-encoding: chunked", length=5) + b"0\r\n\r\n", 400, None),
        (head(CHAT, "POST", "transfer-encoding: chunked") + b"zz\r\n", 400, None),
        (head(CHAT, "POST", "transfer-encoding: chunked") + b"2;" + b"x" * 200_000, 431, None),
        (
            head(CHAT, "POST", "transfer-encoding: chunked") + b"0\r\n" + b"x: y\r\n" * 20_000,
            431,
            None,
        ),
        (head("a:1", "CONNECT"), 400, None),
    ],
)
def test_what_is_not_http_or_too_much_of_it(
    server: Live, request_bytes: bytes, status: int, code: str | None
) -> None:
    with connected(server.port) as sock:
        try:
            sock.sendall(request_bytes)
        except ConnectionError:
            return
        (reply,) = replies(sock)
        assert reply.status == status
        assert code in (None, reply.error["code"])
        assert reply.headers["x-request-id"]
        assert closed(sock)


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("pause", [False, True])
def test_an_offered_upgrade_is_passed_over(server: Live, protocol: str, pause: bool) -> None:
    """Java's HTTP client offers h2c with its first request, body and all."""
    body = b'{"a": 1}'
    lines = ["connection: Upgrade, HTTP2-Settings", f"upgrade: {protocol}", "http2-settings: AAMA"]
    first = head(CHAT, "POST", *lines, length=len(body))
    with connected(server.port) as sock:
        for _ in range(2):
            sock.sendall(first if pause else first + body)
            if pause:
                threading.Event().wait(0.05)
                sock.sendall(body)
            (reply,) = replies(sock)
            assert json.loads(reply.body) == {"got": {"a": 1}}


def test_a_trailer_is_no_header(server: Live, provider: Scripted) -> None:
    trailed = b"2\r\n{}\r\n0\r\nauthorization: Bearer late\r\nx-late: 1\r\n\r\n"
    with connected(server.port) as sock:
        sock.sendall(head(CHAT, "POST", "transfer-encoding: chunked") + trailed)
        (reply,) = replies(sock)
    assert reply.status == 200
    assert not {"authorization", "x-late"} & set(provider.seen[0].headers)


def test_half_a_surrogate_pair_is_no_failure_of_ours(server: Live) -> None:
    with connected(server.port) as sock:
        sock.sendall(post(b'{"a": "\\ud800"}'))
        (reply,) = replies(sock)
    assert reply.status == 400


def test_pipelined_requests_are_answered_in_order(server: Live) -> None:
    with connected(server.port) as sock:
        sock.sendall(b"".join(post(json.dumps({"n": n}).encode()) for n in range(20)))
        answers = [json.loads(reply.body) for reply in replies(sock, 20)]
    assert answers == [{"got": {"n": n}} for n in range(20)]


def test_a_second_request_inside_a_first_is_not_smuggled(server: Live, provider: Scripted) -> None:
    inner = post(b'{"smuggled": 1}')
    with connected(server.port) as sock:
        sock.sendall(head(length=len(inner)) + inner)
        (reply,) = replies(sock)
    assert reply.status == 400
    assert len(provider.seen) == 1


def test_head_is_get_without_the_body(server: Live) -> None:
    answer = httpx.head(f"{server.url}/health")
    assert (answer.status_code, answer.content) == (200, b"")
    assert httpx.head(f"{server.url}/v1/embeddings").status_code == 405


def test_a_client_that_hangs_up_cancels_a_plain_answer(server: Live, provider: Scripted) -> None:
    from tests.server.scripted import never

    provider.scripts[CHAT] = never
    with connected(server.port) as sock:
        sock.sendall(post(b"{}"))
        _until(lambda: bool(provider.seen))
    _until(lambda: provider.cancelled == 1)
    provider.scripts[CHAT] = echoes


@pytest.mark.parametrize("pipelined", [b"", post(b"{}")])
def test_a_client_that_hangs_up_closes_its_stream(
    server: Live, provider: Scripted, pipelined: bytes
) -> None:
    stream = Pieces(b"data: {}\n\n", pause=0.01, endless=True)
    provider.scripts[CHAT] = streams(stream)
    with connected(server.port) as sock:
        sock.sendall(post(b"{}") + pipelined)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
    _until(stream.closed.is_set)
    provider.scripts[CHAT] = echoes


def test_a_half_closed_connection_is_a_hang_up(server: Live, provider: Scripted) -> None:
    stream = Pieces(b"data: {}\n\n", pause=0.01, endless=True)
    provider.scripts[CHAT] = streams(stream)
    with connected(server.port) as sock:
        sock.sendall(post(b"{}"))
        sock.recv(1000)
        sock.shutdown(socket.SHUT_WR)
        _until(stream.closed.is_set)
    provider.scripts[CHAT] = echoes


def test_a_client_that_stops_reading_is_dropped(server: Live, provider: Scripted) -> None:
    stream = Pieces(b"data: " + b"x" * 500_000 + b"\n\n", endless=True)
    provider.scripts[CHAT] = streams(stream)
    with connected(server.port) as sock:
        sock.sendall(post(b"{}"))
        _until(stream.closed.is_set)
        assert closed(sock)
    provider.scripts[CHAT] = echoes


def test_a_client_that_reads_nothing_of_a_whole_answer_is_dropped(
    server: Live, provider: Scripted
) -> None:
    provider.scripts[CHAT] = says({"text": "x" * 20_000_000})
    with connected(server.port) as sock:
        sock.sendall(head(CHAT, "POST", "connection: close", length=2) + b"{}")
        _until(lambda: bool(provider.seen))
        connections = server.server.server_state.connections
        _until(lambda: not connections)
    provider.scripts[CHAT] = echoes


def test_garbage_during_a_stream_is_not_mixed_into_it(server: Live, provider: Scripted) -> None:
    stream = Pieces(b"data: {}\n\n", pause=0.01, endless=True)
    provider.scripts[CHAT] = streams(stream)
    received = b""
    with connected(server.port) as sock:
        sock.sendall(post(b"{}"))
        sock.recv(100)
        sock.sendall(b"garbage\r\n\r\n")
        try:
            while piece := sock.recv(65536):
                received += piece
        except ConnectionError:
            pass
    assert b"HTTP/1.1 400" not in received
    _until(stream.closed.is_set)
    provider.scripts[CHAT] = echoes


async def test_two_hundred_clients_at_once(provider: Scripted) -> None:
    async def one(port: int, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(3):
            body = {"number": number, "turn": turn}
            writer.write(post(json.dumps(body).encode()))
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            assert json.loads(await reader.readexactly(length)) == {"got": body}
        writer.close()
        await writer.wait_closed()

    with live(provider) as busy:
        await asyncio.gather(*(one(busy.port, number) for number in range(200)))


def test_many_idle_connections_do_not_keep_others_out(server: Live) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    try:
        assert httpx.post(f"{server.url}{CHAT}", json={"a": 1}).status_code == 200
    finally:
        for sock in idle:
            sock.close()


def _until(true: Any, seconds: float = 20.0) -> None:
    """Waits for what must happen soon; a time-out is the failure."""
    waited = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        waited.wait(0.01)
    raise AssertionError("it did not happen")
