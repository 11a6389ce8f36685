"""HTTP/1.1 over the wire, on an event loop and on the calling thread, against a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.base import ApiRequest
from provider.errors import Unreachable
from provider.openai import OpenAIProvider
from provider.settings import Settings
from provider.wire.dialing import Origin, dialed
from provider.wire.failures import (
    Broken,
    CannotConnect,
    NoConnectionLeft,
    TimedOut,
    Unsendable,
    WireFailure,
)
from provider.wire.request import request_bytes
from tests.standin import serve
from tests.switching.parts import OnTheCallingThread, chat, content_of
from tests.switching.test_http2 import secure

pytestmark = pytest.mark.skipif(
    find_spec("httptools") is None, reason="the wire needs httptools, which is not installed here"
)

ASK = request_bytes("POST", b"/v1/x", {"host": "here"}, b"{}")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = tuple[int, dict[str, str], bytes]


class Scripted:
    """A server that answers as told; counts its connections and keeps what they sent."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._open: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.origin = Origin("127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._script(reader, writer)
        writer.close()

    async def __aenter__(self) -> Scripted:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = Origin("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open:
            if not writer.is_closing():
                writer.transport.abort()
        await asyncio.sleep(0.01)


async def asked(reader: asyncio.StreamReader) -> bytes:
    """One request, its body included."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def answering(*answers: bytes) -> Script:
    """Each request gets the next answer; after the last the connection is closed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await asked(reader)
            writer.write(answer)
            await writer.drain()

    return script


class OnTheLoop:
    def __init__(self, origin: Origin, seconds: float = 5.0) -> None:
        from provider.wire.pool import Pool

        self._pool = Pool(origin, connect=seconds, silence=seconds)

    async def ask(self, sent: bytes = ASK) -> Answer:
        incoming = await self._pool.exchange(sent)
        try:
            body = b"".join([piece async for piece in incoming])
        finally:
            await incoming.aclose()
        return incoming.status, incoming.headers, body

    async def aclose(self) -> None:
        await self._pool.aclose()


class OnTheThread:
    def __init__(self, origin: Origin, seconds: float = 5.0) -> None:
        from provider.wire.blocking import BlockingPool

        self._pool, self._seconds = BlockingPool(origin), seconds

    async def ask(self, sent: bytes = ASK) -> Answer:
        return await asyncio.to_thread(self._ask, sent)

    def _ask(self, sent: bytes) -> Answer:
        exchange = self._pool.exchange(sent, connect=self._seconds, silence=self._seconds)
        try:
            return exchange.status, exchange.headers, b"".join(exchange)
        finally:
            exchange.close()

    async def aclose(self) -> None:
        self._pool.close()


Way = type[OnTheLoop] | type[OnTheThread]
both = pytest.mark.parametrize("way", [OnTheLoop, OnTheThread])


@contextlib.asynccontextmanager
async def talking(
    way: Way, script: Script, seconds: float = 5.0
) -> AsyncIterator[tuple[Scripted, OnTheLoop | OnTheThread]]:
    async with Scripted(script) as server:
        client = way(server.origin, seconds)
        try:
            yield server, client
        finally:
            await client.aclose()


@both
async def test_a_connection_is_used_again(way: Way) -> None:
    async with talking(way, answering(OK, OK, OK)) as (server, client):
        for _ in range(3):
            assert await client.ask() == (200, {"content-length": "2"}, b"ok")
        assert server.connections == 1


@both
async def test_one_that_the_server_has_closed_is_not(way: Way) -> None:
    async with talking(way, answering(OK)) as (server, client):
        for number in range(1, 4):
            assert (await client.ask())[2] == b"ok"
            assert server.connections == number
            await asyncio.sleep(0.05)  # the close arrives


@both
async def test_nor_one_whose_answer_says_close_or_goes_on(way: Way) -> None:
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    for answer in (closing, OK + b"surplus", OK + OK):
        async with talking(way, answering(answer, OK)) as (server, client):
            assert (await client.ask())[2] == b"ok"
            assert (await client.ask())[2] == b"ok"
            assert server.connections == 2


@both
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\ntrailer: x\r\n\r\n",
            b"abcd",
        ),
    ],
)
async def test_every_way_that_a_body_may_end(way: Way, answer: bytes, body: bytes) -> None:
    async with talking(way, answering(answer)) as (_, client):
        status, headers, got = await client.ask()
        assert got == body
        assert status in {200, 204}
        assert "trailer" not in headers
        assert "link" not in headers


@both
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000,
    ],
)
async def test_what_is_no_whole_answer_is_broken(way: Way, answer: bytes) -> None:
    async with talking(way, answering(answer)) as (_, client):
        with pytest.raises(Broken):
            await client.ask()


@both
async def test_silence_ends_and_the_server_is_left(way: Way) -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK[:-1])
        await reader.read()
        left.set()

    async with talking(way, silent, seconds=0.1) as (_, client):
        with pytest.raises(TimedOut):
            await client.ask()
        await asyncio.wait_for(left.wait(), 10)


@both
async def test_a_server_that_takes_nothing_is_left(way: Way) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with talking(way, deaf, seconds=0.2) as (_, client):
        with pytest.raises(TimedOut):
            await client.ask(request_bytes("POST", b"/", {}, b"x" * 30_000_000))


@both
async def test_a_refusal_before_the_body_was_taken_is_heard(way: Way) -> None:
    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read()

    async with talking(way, refusing) as (_, client):
        status, _, body = await client.ask(request_bytes("POST", b"/", {}, b"x" * 100_000))
        assert (status, body) == (413, b"big")


@both
async def test_a_large_body_goes_out_and_comes_back_whole(way: Way) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = (await asked(reader)).split(b"\r\n\r\n", 1)[1]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    body = bytes(range(256)) * 40_000
    async with talking(way, echo) as (_, client):
        assert (await client.ask(request_bytes("POST", b"/", {}, body)))[2] == body


async def test_a_slow_reader_makes_the_server_wait() -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 1

    from provider.wire.pool import Pool

    async with Scripted(flood) as server:
        pool = Pool(server.origin, connect=5, silence=5)
        incoming = await pool.exchange(ASK)
        await asyncio.sleep(0.3)
        before = written
        assert before < 900
        size = sum([len(piece) async for piece in incoming])
        assert size == 100_000_000
        await pool.aclose()


async def test_who_is_cancelled_or_leaves_hangs_up() -> None:
    from provider.wire.pool import Pool

    left = asyncio.Queue[None]()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK[:-1])
        await reader.read()
        left.put_nowait(None)

    async with Scripted(endless) as server:
        pool = Pool(server.origin, connect=5, silence=5)
        incoming = await pool.exchange(ASK)
        assert await anext(aiter(incoming)) == b"o"
        await incoming.aclose()
        reading = asyncio.create_task(OnTheLoop(server.origin).ask())
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with asyncio.timeout(10):
            await left.get()
            await left.get()
        await pool.aclose()


async def test_no_more_exchanges_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider.wire.pool.MOST_UNDER_WAY", 1)
    monkeypatch.setattr("provider.wire.blocking.MOST_UNDER_WAY", 1)
    held = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        await held.wait()
        writer.write(OK)

    for way in (OnTheLoop, OnTheThread):
        held.clear()
        async with talking(way, slow, seconds=0.3) as (_, client):
            first = asyncio.create_task(client.ask())
            await asyncio.sleep(0.05)
            with pytest.raises((NoConnectionLeft, TimedOut)):
                await client.ask()
            held.set()
            with contextlib.suppress(WireFailure):
                await first
            assert (await client.ask())[2] == b"ok"  # the room is given back


async def test_an_address_that_refuses_leaves_the_next_one() -> None:
    """`localhost` may be ::1 first, where nobody listens."""
    async with Scripted(answering(OK)) as server:
        connection = await dialed(Origin("localhost", server.origin.port), 5)
        connection.drop()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for host in ("127.0.0.1", "nobody.invalid"):
            with pytest.raises(CannotConnect):
                await dialed(Origin(host, closed.getsockname()[1]), 5)


@pytest.mark.parametrize(
    ("name", "value"), [("x", "a\r\ny: z"), ("x", "a\nb"), ("x", "a\0"), ("x y", "a"), ("", "a")]
)
def test_a_header_that_would_be_two_is_not_sent(name: str, value: str) -> None:
    with pytest.raises(Unsendable):
        request_bytes("POST", b"/", {name: value}, b"")


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_response_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    from provider.wire.response import Response

    sent = (
        b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\nX: 1\r\nx: 2\r\n"
        b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\n\xec\x95\x88\r\n0\r\n\r\n"
    )
    response, at, body = Response(), 0, b""
    for cut in [*cuts, len(sent)]:
        response.feed(sent[at : at + cut])
        at += cut
        body += response.taken()
        if at >= len(sent):
            break
    assert (response.status, response.headers["x"], body) == (200, "1, 2", "hello안".encode())
    assert response.whole
    assert response.keep_alive


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("hypercorn", "trustme")), reason="needs a TLS server"
)
@pytest.mark.parametrize("thread", [False, True])
async def test_over_tls_the_server_must_be_who_it_says(
    thread: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as standin:
        async with secure(standin, tmp_path) as base_url:
            settings = Settings(
                _env_file=None, openai_base_url=base_url, openai_api_key=standin.key
            )
            strange = OpenAIProvider(settings)
            with pytest.raises(Unreachable):
                await (OnTheCallingThread(strange) if thread else strange).answer(chat())
            await strange.aclose()
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            hosted = OpenAIProvider(settings)
            for stream in (False, True):
                asked_for: ApiRequest = chat(stream=stream)
                asking = OnTheCallingThread(hosted) if thread else hosted
                assert await content_of(await asking.answer(asked_for))
            await hosted.aclose()
