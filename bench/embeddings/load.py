"""Clients that each send single texts, one after the other, over a kept-alive connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.gateway.load import body_of
from bench.gateway.targets import KEY


@dataclass(frozen=True)
class Measured:
    """What the clients saw together."""

    texts_per_second: float
    p50_ms: float
    p99_ms: float


def request(port: int, model: str, text: str) -> bytes:
    """One text, as the SDK asks for it: vectors in base64."""
    body = json.dumps({"model": model, "input": text, "encoding_format": "base64"}).encode()
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"content-type: application/json\r\nauthorization: Bearer %s\r\n"
        b"content-length: %d\r\n\r\n" % (port, KEY.encode(), len(body))
    ) + body


async def _client(port: int, left: Iterator[bytes], seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for sent in left:
            started = time.perf_counter()
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await body_of(head, reader)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"answered {head[:60]!r} {body[:300]!r}")
            seconds.append(time.perf_counter() - started)
    finally:
        writer.close()


async def load(port: int, model: str, texts: Sequence[str], clients: int) -> Measured:
    """All the texts, shared among the clients."""
    left = iter([request(port, model, text) for text in texts])
    seconds: list[float] = []
    started = time.perf_counter()
    await asyncio.gather(*(_client(port, left, seconds) for _ in range(clients)))
    took = time.perf_counter() - started
    seconds.sort()
    p50, p99 = (1000 * seconds[int(len(seconds) * share)] for share in (0.5, 0.99))
    return Measured(len(texts) / took, p50, p99)
