"""What holders of streams share: the first piece before a stream is promised, and pieces that
arrive together as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from provider.base import ApiResponse, ByteStream


class Primed:
    """A stream whose first piece is already here."""

    def __init__(self, first: bytes | None, rest: AsyncIterator[bytes], body: ByteStream) -> None:
        self._first, self._rest, self._body = first, rest, body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first is None:
            return
        yield self._first
        async for piece in self._rest:
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


async def primed(response: ApiResponse) -> ApiResponse:
    """The same response, its stream's first piece received.

    Raises what the stream raises instead of a first piece; the stream is closed then.
    """
    if isinstance(response.body, bytes):
        return response
    pieces = aiter(response.body)
    try:
        first = await anext(pieces, None)
    except BaseException:
        await response.body.aclose()
        raise
    return replace(response, body=Primed(first, pieces, response.body))


_MOST_AHEAD = 64 * 2**10


class Gathered:
    """The pieces of a stream that arrive together, as one piece.

    A task reads as long as there is something to read; when it has to wait, what has come goes out.
    So nothing is held back, and a burst of events costs one write. It reads at most
    `_MOST_AHEAD` bytes (and one piece) ahead of a slow reader.
    """

    def __init__(self, body: ByteStream) -> None:
        self._body = body
        self._pieces: list[bytes] = []
        self._size = 0
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._reading = reading = asyncio.create_task(self._read())
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                if self._pieces:
                    yield self._taken()
                if reading.done() and not self._pieces:
                    await reading  # raises what the stream raised
                    return
        finally:
            reading.cancel()

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._body.aclose()

    async def _read(self) -> None:
        try:
            async for piece in self._body:
                self._pieces.append(piece)
                self._size += len(piece)
                self._arrived.set()
                if self._size > _MOST_AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._arrived.set()

    def _taken(self) -> bytes:
        taken = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._room.set()
        return taken
