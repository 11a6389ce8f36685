"""The bytes of a streamed response, from the bytes of a streamed chat answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from provider.base import ByteStream
from provider.errors import ApiError, BadGateway
from provider.events import EventReader
from provider.protocol.responses.chat import as_said
from provider.protocol.responses.events import Events
from provider.protocol.responses.objects import Head
from provider.protocol.serial import dumps


class ResponseStream:
    """The events of a response. `finished` is given the whole one before its last event goes out.

    A chat answer that breaks off ends in `error` and `response.failed`, and its error is raised
    after them, so that the carrier breaks the connection off.
    """

    def __init__(
        self, body: ByteStream, head: Head, finished: Callable[[dict[str, Any]], None]
    ) -> None:
        self._body, self._head, self._finished = body, head, finished
        self._events: Events | None = None
        self._failure: Mapping[str, Any] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = EventReader()
        try:
            async for piece in self._body:
                if said := b"".join(map(self._said, reader.read(piece))):
                    yield said
            if self._failure is not None:
                raise BadGateway(self._failure["message"], code=self._failure["code"])
        except ApiError as error:
            if self._events is not None:
                told = {**error.body()["error"], "message": as_said(error.message)}
                yield _bytes(self._events.fail(told))
            raise
        if self._events is not None:
            last = list(self._events.end(int(time.time())))
            self._finished(last[-1]["response"])
            yield _bytes(last)

    async def aclose(self) -> None:
        await self._body.aclose()

    def _said(self, chunk: Mapping[str, Any]) -> bytes:
        if "error" in chunk:  # most often raised right after
            self._failure = chunk["error"]
            return b""
        begun = b""
        if self._events is None:
            self._events = Events(self._head, chunk["model"])
            begun = _bytes(self._events.begin())
        return begun + _bytes(self._events.chunk(chunk))


def _bytes(events: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {dumps(event)}\n\n".encode() for event in events
    )
