"""Server-sent events as OpenAI frames them: `data: {json}` and, at a good end, `data: [DONE]`.

A stream that fails after its first byte sends `data: {"error": ...}`, which the official SDKs raise
as an `APIError`, and then breaks off: never `[DONE]`, never a clean end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from provider.errors import ApiError
from provider.protocol.serial import dumps

DONE = b"data: [DONE]\n\n"

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def event(data: Any) -> bytes:
    """One event. JSON text has no line breaks, so one `data:` line carries it."""
    return b"data: " + dumps(data).encode("utf-8") + b"\n\n"


class EventStream:
    """A `ByteStream` over an iterator of JSON objects.

    `aclose()` awaits `close`, which must cancel the work; it is safe to call twice and on a stream
    that was never read. An `ApiError` of the generator goes out as an error event
    and is then raised again, so that the carrier breaks the connection off.
    """

    def __init__(self, objects: AsyncIterator[Any], close: Callable[[], Awaitable[None]]) -> None:
        self._objects = objects
        self._close = close
        self._bytes = self._encoded()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._bytes

    async def aclose(self) -> None:
        await self._bytes.aclose()
        await self._close()

    async def _encoded(self) -> AsyncGenerator[bytes, None]:
        try:
            async for item in self._objects:
                yield event(item)
        except ApiError as error:
            yield event(error.body())
            raise
        yield DONE
