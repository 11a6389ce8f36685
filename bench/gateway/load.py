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


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> int:
    """Sends one request and reads its answer to the end; returns the status."""
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while True:
            size = int((await reader.readline()).strip(), 16)
            await reader.readexactly(size + 2)
            if size == 0:
                break
    else:
        mark = lower.index(b"content-length:")
        await reader.readexactly(int(lower[mark + 15 :].split(b"\r\n", 1)[0]))
    return int(head.split(b" ", 2)[1])


async def _client(port: int, sent: bytes, until: float, seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.perf_counter() < until:
            started = time.perf_counter()
            status = await _one(reader, writer, sent)
            if status != 200:
                raise RuntimeError(f"status {status}")
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
