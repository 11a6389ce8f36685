"""Exchanges on the calling thread, over connections that wait by blocking."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

from provider.wire.connection import readable
from provider.wire.dialing import Origin
from provider.wire.failures import Broken, NoConnectionLeft, TimedOut, unconnected
from provider.wire.pool import IDLE_SECONDS, MOST_IDLE, MOST_UNDER_WAY
from provider.wire.response import Response

_AT_ONCE = 64 * 2**10


class BlockingPool:
    """Exchanges with one server. Any thread may use it, each exchange by one at a time."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._room = threading.Semaphore(MOST_UNDER_WAY)
        self._idle: list[tuple[float, socket.socket]] = []

    def exchange(self, sent: bytes, *, connect: float, silence: float) -> BlockingExchange:
        """The response to a request, its head received; `close` it in the end.

        `connect`: seconds to a connection, and as many again for TLS; `silence`: the longest that
        nothing comes, goes or becomes free. Raises `WireFailure`.
        """
        if not self._room.acquire(timeout=silence):
            raise NoConnectionLeft(f"none became free in {silence:g} seconds")
        try:
            connection = self._reused() or _dialed(self._origin, connect)
        except BaseException:
            self._room.release()
            raise
        exchange = BlockingExchange(self, connection)
        try:
            exchange.begin(sent, silence)
        except BaseException:
            exchange.close()
            raise
        return exchange

    def close(self) -> None:
        """Closes what is idle; what is under way ends by itself."""
        while self._idle:
            self._idle.pop()[1].close()

    def take_back(self, connection: socket.socket, again: bool) -> None:
        """The end of an exchange; `again`: its connection may be used once more."""
        if again and len(self._idle) < MOST_IDLE:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()
        self._room.release()

    def _reused(self) -> socket.socket | None:
        """The idle connection that was used last, if it is still there."""
        oldest = time.monotonic() - IDLE_SECONDS
        while True:
            try:
                since, connection = self._idle.pop()
            except IndexError:
                return None
            if since >= oldest and not readable(connection.fileno()):
                return connection
            connection.close()


class BlockingExchange(Response):
    """One response and the connection that it comes over. Pieces that came together are one."""

    def __init__(self, pool: BlockingPool, connection: socket.socket) -> None:
        super().__init__()
        self._pool = pool
        self._connection: socket.socket | None = connection

    def begin(self, sent: bytes, silence: float) -> None:
        """Sends the request and receives the head. Raises `WireFailure`."""
        assert self._connection is not None
        self._connection.settimeout(silence)
        try:
            self._connection.sendall(sent)
        except TimeoutError as error:
            raise TimedOut(f"nothing was taken for {silence:g} seconds") from error
        except OSError:
            pass  # the server may have answered before it had all of it (413)
        while self.in_head:
            self._receive()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            if self.held:
                yield self.taken()
            elif self.whole:
                self.close()
                return
            else:
                self._receive()

    def close(self) -> None:
        """Before the end this hangs up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.take_back(connection, self.whole and self.keep_alive)

    def _receive(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._connection is None:
            raise Broken("closed before the answer was whole")
        try:
            data = self._connection.recv(_AT_ONCE)
        except TimeoutError as error:
            raise TimedOut("nothing came in time") from error
        except OSError as error:
            raise Broken(str(error)) from error
        if data:
            self.feed(data)
        else:
            self.eof()
        if self.failure is not None and not self.held:
            raise self.failure


def _dialed(origin: Origin, seconds: float) -> socket.socket:
    opened: socket.socket | None = None
    try:
        opened = socket.create_connection((origin.host, origin.port), seconds)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if origin.trust is None:
            return opened
        return origin.trust.wrap_socket(opened, server_hostname=origin.host)
    except (OSError, UnicodeError) as error:
        if opened is not None:
            opened.close()
        raise unconnected(error, seconds) from error
