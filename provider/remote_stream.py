"""Another server's stream of text as OpenAI would send it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from provider.base import ByteStream
from provider.errors import BadGateway
from provider.protocol import breach, sse
from provider.protocol.chat import ChatRequest
from provider.protocol.normal import normal_chunk, normal_error


class NormalStream:
    """The events of `body` in OpenAI's shape; comments and event names are dropped.

    Raises `BadGateway` instead of the end of an answer that broke its schema, and of a stream that
    has fewer answers than were asked for.
    """

    def __init__(self, body: ByteStream, asked: ChatRequest, predicted: bool) -> None:
        self._body, self._asked, self._predicted = body, asked, predicted
        self._said: dict[int, str] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest = b""
        async for piece in self._body:
            *lines, rest = (rest + piece).split(b"\n")
            events = b"".join(map(self._event, lines))
            if events:
                yield events

    async def aclose(self) -> None:
        await self._body.aclose()

    def _event(self, line: bytes) -> bytes:
        data = line.removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or not data:
            return b""
        if data == b"[DONE]":
            if len(self._said) < self._asked.n:
                raise fewer_than(self._asked.n)
            return sse.DONE
        read = json.loads(data)
        return sse.event(normal_error(read, 500) if "error" in read else self._chunk(read))

    def _chunk(self, read: dict[str, Any]) -> dict[str, Any]:
        chunk = normal_chunk(read, self._predicted)
        for choice in chunk["choices"]:
            self._hear(choice)
        if self._asked.include_usage:
            chunk.setdefault("usage", None)
        return chunk

    def _hear(self, choice: dict[str, Any]) -> None:
        said = self._said.setdefault(choice["index"], "")
        if self._asked.format.type == "text":
            return
        self._said[choice["index"]] = said = said + (choice["delta"].get("content") or "")
        if choice["finish_reason"] == "stop":
            breach.check_answer(self._asked, said)


def fewer_than(n: int) -> BadGateway:
    return BadGateway(
        f"The server behind LOCAL_LLM_BASE_URL gives one answer where n={n} were asked for; "
        "ask once for each, or use a server that knows 'n'."
    )
