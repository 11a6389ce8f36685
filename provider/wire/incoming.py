"""One response while it arrives on an event loop: its body is a stream of what has come so far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from provider.wire.failures import TimedOut, WireFailure
from provider.wire.response import Response

MOST_AHEAD = 64 * 2**10
"""Bytes of a body that are held for a slow reader before the server is made to wait."""


class Incoming(Response):
    """Pieces that arrived together are one piece. `aclose()` before the end hangs up.

    `seconds`: the longest that nothing comes; `resume` is called when a piece was read, `leave` to
    hang up.
    """

    def __init__(self, seconds: float, resume: Callable[[], None], leave: Callable[[], None]):
        super().__init__()
        self._seconds = seconds
        self._resume, self._leave = resume, leave
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        super().feed(data)
        self._wake()

    def eof(self) -> None:
        super().eof()
        self._wake()

    def fail(self, failure: WireFailure) -> None:
        super().fail(failure)
        self._wake()

    async def head(self) -> None:
        """Returns when `status` and `headers` are there. Raises `WireFailure`."""
        while self.in_head:
            await self._more()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            if self.held:
                taken = self.taken()
                self._resume()
                yield taken
            elif self.whole:
                return
            else:
                await self._more()

    async def aclose(self) -> None:
        if not self.whole:
            self._leave()

    async def _more(self) -> None:
        """Waits until something has come. Raises `WireFailure`."""
        if self.failure is not None:
            raise self.failure
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(self._seconds, self._overdue)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _overdue(self) -> None:
        self.fail(TimedOut(f"nothing came for {self._seconds:g} seconds"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
