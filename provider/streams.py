"""What holders of streams share: looking at the first piece before promising a stream."""

from __future__ import annotations

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
