"""One connection to a server: exchanges one after the other, and an end that is noticed."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from typing import cast

from provider.wire.failures import Broken, TimedOut
from provider.wire.incoming import MOST_AHEAD, Incoming


class Connection(asyncio.Protocol):
    """`over` is called once for each exchange, with whether the connection may be used again."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.over: Callable[[bool], None] = _nobody
        self._transport: asyncio.Transport | None = None
        self._incoming: Incoming | None = None
        self._paused = False
        self._writing: asyncio.Future[None] | None = None
        self._gone = False

    async def exchange(self, sent: bytes, seconds: float) -> Incoming:
        """Sends a request, and returns its response once its head is there.

        `seconds`: the longest silence, of either side. Raises `WireFailure`; then, and when the
        caller is cancelled, the connection is dropped.
        """
        incoming = self._incoming = Incoming(seconds, self._read_on, self.drop)
        try:
            if self._gone or self._transport is None:
                raise Broken("closed before the request was sent")
            self._transport.write(sent)
            if self._writing is not None:
                await self._written(self._writing, seconds)
            await incoming.head()
        except BaseException:
            self.drop()
            raise
        return incoming

    def usable(self) -> bool:
        """Whether an idle connection is still there: a close may have come that the event loop has
        not looked at yet."""
        if self._gone or self._transport is None or self._transport.is_closing():
            return False
        return not readable(self._transport.get_extra_info("socket").fileno())

    def drop(self) -> None:
        """Ends the connection at once, without waiting for what was not sent yet."""
        if self._transport is not None:
            self._transport.abort()
        self._end(Broken("dropped"))

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        if incoming is None:
            self.drop()  # nobody asked
            return
        incoming.feed(data)
        if incoming.failure is not None:
            self.drop()
        elif incoming.whole:
            self._finish(incoming)
        elif incoming.held > MOST_AHEAD and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self._incoming is not None and error is None:
            self._incoming.eof()
        self._end(Broken(f"the connection was lost: {error}"))

    def pause_writing(self) -> None:
        self._writing = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None and not writing.done():
            writing.set_result(None)

    # What follows from it.

    async def _written(self, writing: asyncio.Future[None], seconds: float) -> None:
        """An answer that comes before all was sent (413) ends the waiting too."""
        try:
            async with asyncio.timeout(seconds):
                await writing
        except TimeoutError:
            raise TimedOut(f"nothing was taken for {seconds:g} seconds") from None

    def _finish(self, incoming: Incoming) -> None:
        transport = self._transport
        sent = transport is not None and not transport.get_write_buffer_size()
        if not (incoming.keep_alive and sent):
            self.drop()
            return
        self._incoming = None
        self._read_on()
        over, self.over = self.over, _nobody
        over(True)

    def _end(self, why: Broken) -> None:
        self._gone = True
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.fail(why)
        self.resume_writing()
        over, self.over = self.over, _nobody
        over(False)

    def _read_on(self) -> None:
        if self._paused and self._transport is not None and not self._gone:
            self._paused = False
            self._transport.resume_reading()


def _nobody(again: bool) -> None:
    """Stands in where no exchange is under way."""


def readable(socket: int) -> bool:
    """Whether something came over an idle connection that nobody asked for: a close, as a rule."""
    if sys.platform == "win32":
        return bool(select.select([socket], [], [], 0)[0])
    look = select.poll()
    look.register(socket, select.POLLIN)
    return bool(look.poll(0))
