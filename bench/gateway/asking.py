"""Clients that note who answered: raw HTTP, and the SDK over a provider in this process."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from bench.gateway.load import body_of, request
from bench.gateway.targets import KEY
from provider.client import AsyncOpenAI
from provider.factory import build
from provider.settings import Settings

_CONTENT = re.compile(rb'"content": ?"([^"]*)"')
_PROVIDER = re.compile(rb"x-sllm-provider: (\w+)")


@dataclass(frozen=True, slots=True)
class Told:
    """Who answered, by the response's header, whether every word is that provider's, and when the
    head of the answer came (`time.perf_counter`)."""

    provider: str
    pure: bool
    at: float


def told(provider: str, text: str, at: float) -> Told:
    words = text.split()
    return Told(provider, len(words) >= 16 and set(words) == {provider}, at)


class HttpAsker:
    """Asks over connections that are kept open; as many as there are requests at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._sent = {stream: request(port, stream=stream) for stream in (False, True)}

    async def ask(self, stream: bool) -> Told:
        head, body, at = await self._exchanged(self._sent[stream])
        found = _PROVIDER.search(head)
        if not head.startswith(b"HTTP/1.1 200") or found is None:
            raise RuntimeError(f"answered {head[:60]!r}")
        if stream and b"data: [DONE]" not in body:
            raise RuntimeError("a stream without its end")
        text = b"".join(_CONTENT.findall(body)).decode()
        return told(found.group(1).decode(), text, at)

    async def switch(self, name: str) -> None:
        """`PUT /admin/providers`."""
        body = json.dumps({"llm": name}).encode()
        head, _, _ = await self._exchanged(
            b"PUT /admin/providers HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"authorization: Bearer %s-admin\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (KEY.encode(), len(body), body)
        )
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the switch was answered {head[:60]!r}")

    async def _exchanged(self, sent: bytes) -> tuple[bytes, bytes, float]:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        at = time.perf_counter()
        body = await body_of(head, reader)
        self._idle.append((reader, writer))
        return head, body, at

    async def aclose(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


class SdkAsker:
    """Asks the official SDK over the provider that the settings build."""

    def __init__(self, settings: Settings) -> None:
        self._provider = build(settings)
        self._client = AsyncOpenAI(provider=self._provider, max_retries=0)

    async def ask(self, stream: bool) -> Told:
        create = self._client.chat.completions.with_raw_response.create
        asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "?"}]}
        raw = await create(**asked, stream=stream)
        provider, at = raw.headers["x-sllm-provider"], time.perf_counter()
        answer: Any = raw.parse()
        if not stream:
            return told(provider, answer.choices[0].message.content, at)
        text, finish = "", None
        async for chunk in answer:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        if finish is None:
            raise RuntimeError("a stream without its end")
        return told(provider, text, at)

    async def aclose(self) -> None:
        await self._provider.aclose()
