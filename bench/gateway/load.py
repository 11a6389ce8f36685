"""A load generator that costs little itself: raw HTTP/1.1 over kept-alive connections."""

from __future__ import annotations

import asyncio
import json
import time

from bench.gateway.targets import KEY

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "안녕하세요"}]}


def request(port: int, *, stream: bool) -> bytes:
    body = json.dumps({**BODY, "stream": True} if stream else BODY, ensure_ascii=False).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"content-type: application/json\r\nauthorization: Bearer %s\r\n"
        b"content-length: %d\r\n\r\n" % (port, KEY.encode(), len(body))
    ) + body


async def body_of(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """The body that follows a response's head."""
    lower = head.lower()
    if b"transfer-encoding: chunked" not in lower:
        mark = lower.index(b"content-length:")
        return await reader.readexactly(int(lower[mark + 15 :].split(b"\r\n", 1)[0]))
    pieces: list[bytes] = []
    while True:
        size = int((await reader.readline()).strip(), 16)
        piece = await reader.readexactly(size + 2)
        if size == 0:
            return b"".join(pieces)
        pieces.append(piece[:-2])


async def _client(port: int, sent: bytes, until: float, seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.perf_counter() < until:
            started = time.perf_counter()
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            await body_of(head, reader)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"answered {head[:60]!r}")
            seconds.append(time.perf_counter() - started)
    finally:
        writer.close()


async def load(port: int, clients: int, duration: float, *, stream: bool) -> list[float]:
    """Latencies in seconds of every request that `clients` connections made in `duration`."""
    sent = request(port, stream=stream)
    seconds: list[float] = []
    until = time.perf_counter() + duration
    await asyncio.gather(*(_client(port, sent, until, seconds) for _ in range(clients)))
    return sorted(seconds)
