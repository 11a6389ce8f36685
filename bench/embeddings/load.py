"""Clients that each send single texts, one after the other, over a kept-alive connection.

They share the cores with the server, so they do as little as they can: the requests are made
before, and of an answer only its status and its length are read.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.gateway.targets import KEY


@dataclass(frozen=True)
class Measured:
    """What the clients saw together."""

    per_second: float
    p50_ms: float
    p99_ms: float


def embed(port: int, model: str, text: str) -> bytes:
    """One text, as the SDK asks for it: vectors in base64."""
    body = json.dumps({"model": model, "input": text, "encoding_format": "base64"}).encode()
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"content-type: application/json\r\nauthorization: Bearer %s\r\n"
        b"content-length: %d\r\n\r\n" % (port, KEY.encode(), len(body))
    ) + body


def health(port: int) -> bytes:
    """A request that no model has a part in."""
    return b"GET /health HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % port


class _Client(asyncio.Protocol):
    """Sends the next request when the answer to its last one is complete."""

    def __init__(self, left: Iterator[bytes], seconds: list[float]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left, self._seconds = left, seconds
        self._received = b""
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if not self._size:
            self._size = _size_of(self._received)
        if self._size and len(self._received) >= self._size:
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("the server closed the connection"))

    def _answered(self) -> None:
        self._seconds.append(time.perf_counter() - self._sent)
        if not self._received.startswith(b"HTTP/1.1 200"):
            self.ended.set_exception(RuntimeError(f"answered {self._received[:300]!r}"))
            self._transport.close()
            return
        self._received, self._size = b"", 0
        self._next()

    def _next(self) -> None:
        request = next(self._left, None)
        if request is None:
            self.ended.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)


def _size_of(received: bytes) -> int:
    """Bytes of the whole response; 0 while its head is incomplete."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return 0
    lower = received[:head].lower()
    mark = lower.index(b"content-length:") + 15
    return head + 4 + int(lower[mark:].split(b"\r\n", 1)[0])


async def load(port: int, requests: Sequence[bytes], clients: int) -> Measured:
    """All the requests, shared among the clients."""
    left = iter(requests)
    seconds: list[float] = []
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = [
        await loop.create_connection(lambda: _Client(left, seconds), "127.0.0.1", port)
        for _ in range(min(clients, len(requests)))
    ]
    await asyncio.gather(*(client.ended for _, client in made))
    took = time.perf_counter() - started
    seconds.sort()
    p50, p99 = (1000 * seconds[int(len(seconds) * share)] for share in (0.5, 0.99))
    return Measured(len(requests) / took, p50, p99)
