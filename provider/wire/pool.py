"""The connections to one server, kept open between requests."""

from __future__ import annotations

import asyncio
import time

from provider.wire.connection import Connection
from provider.wire.dialing import Origin, dialed
from provider.wire.failures import NoConnectionLeft
from provider.wire.incoming import Incoming

MOST_UNDER_WAY = 1000
MOST_IDLE = 100
IDLE_SECONDS = 5.0
"""An idle connection that is older is not used again: many servers close it about then."""


class Pool:
    """Exchanges with one server, each over a connection of its own while it lasts.

    `connect`: seconds to a connection; `silence`: the longest that nothing comes, goes or becomes
    free. One event loop uses it.
    """

    def __init__(self, origin: Origin, *, connect: float, silence: float) -> None:
        self._origin = origin
        self._connect, self._silence = connect, silence
        self._room = asyncio.Semaphore(MOST_UNDER_WAY)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    async def exchange(self, sent: bytes) -> Incoming:
        """The response to a request, its head received. Raises `WireFailure`."""
        await self._enter()
        try:
            connection = self._reused() or await dialed(self._origin, self._connect)
        except BaseException:
            self._room.release()
            raise
        self._busy.add(connection)
        connection.over = lambda again: self._over(connection, again)
        return await connection.exchange(sent, self._silence)

    async def aclose(self) -> None:
        """Ends every connection, those under way included."""
        for connection in [*self._idle, *self._busy]:
            connection.drop()
        self._idle.clear()
        await asyncio.sleep(0)  # the event loop closes the sockets in its next turn

    async def _enter(self) -> None:
        if not self._room.locked():
            await self._room.acquire()
            return
        try:
            async with asyncio.timeout(self._silence):
                await self._room.acquire()
        except TimeoutError:
            raise NoConnectionLeft(f"none became free in {self._silence:g} seconds") from None

    def _reused(self) -> Connection | None:
        """The idle connection that was used last, if it is still there."""
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and connection.usable():
                return connection
            connection.drop()
        return None

    def _over(self, connection: Connection, again: bool) -> None:
        self._room.release()
        self._busy.discard(connection)
        if again and len(self._idle) < MOST_IDLE:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        elif again:
            connection.drop()
        if self._idle and self._idle[0].idle_since < time.monotonic() - IDLE_SECONDS:
            self._idle.pop(0).drop()
