"""How a request reaches the hosted side on the calling thread (see `provider.here`): over the wire
or over the SDK's HTTP library, as `provider.carriers` does on an event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from ssl import SSLContext
from typing import TYPE_CHECKING

from provider.carriers import (
    CONNECT_SECONDS,
    LIMITS,
    Outgoing,
    Received,
    compressed,
    library_request,
    may_be_wired,
    no_cookies,
    origin_of,
    timeout,
    wire_request,
)
from provider.here import CallerTimeout
from provider.sdk_http import httpx
from provider.wire.failures import ConnectTimedOut, NoConnectionLeft, TimedOut

if TYPE_CHECKING:
    from provider.settings import Settings
    from provider.wire.blocking import BlockingExchange

_TIMEOUTS = (httpx.TimeoutException, ConnectTimedOut, NoConnectionLeft, TimedOut)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A body that comes while it is iterated over; `close` before its end hangs up."""

    pieces: Iterator[bytes]
    close: Callable[[], None]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    async def aclose(self) -> None:
        self.close()


class Blocking:
    """Carries requests; its coroutines never wait."""

    def __init__(self, settings: Settings, trust: SSLContext) -> None:
        self._seconds = settings.openai_timeout
        wired = may_be_wired(settings)
        self._way: _Wire | _Library = (_Wire if wired else _Library)(settings, trust)

    async def send(self, outgoing: Outgoing, most: float | None = None) -> Received:
        """`most`: the seconds that the caller waits, for a whole answer or for the next piece of a
        stream. Raises `CallerTimeout` after them, where the settings would wait longer."""
        waiting = _Waiting(most)
        seconds = self._seconds if most is None else min(most, self._seconds)
        try:
            received = self._way.send(outgoing, seconds)
        except _TIMEOUTS as error:
            waiting.check(error)
            raise
        return replace(received, body=_Timed(received, waiting)) if most is not None else received

    async def aclose(self) -> None:
        self._way.close()


class _Wire:
    def __init__(self, settings: Settings, trust: SSLContext) -> None:
        from provider.wire.blocking import BlockingPool

        self._pool = BlockingPool(origin_of(httpx.URL(settings.openai_base_url), trust))

    def send(self, outgoing: Outgoing, seconds: float) -> Received:
        connect = min(CONNECT_SECONDS, seconds)
        exchange = self._pool.exchange(wire_request(outgoing), connect=connect, silence=seconds)
        pieces = iter(exchange)
        if coding := compressed(exchange.headers):
            raw = _Raw(exchange)
            pieces = httpx.Response(exchange.status, headers=coding, stream=raw).iter_bytes()
        return Received(exchange.status, exchange.headers, _Pieces(pieces, exchange.close))

    def close(self) -> None:
        self._pool.close()


class _Library:
    def __init__(self, settings: Settings, trust: SSLContext) -> None:
        http2 = settings.openai_http2 == "on"
        self._client = httpx.Client(verify=trust, http2=http2, limits=LIMITS, cookies=no_cookies())

    def send(self, outgoing: Outgoing, seconds: float) -> Received:
        request = library_request(outgoing, timeout=timeout(seconds).as_dict())
        response = self._client.send(request, stream=True)
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = _Pieces(response.iter_bytes(), response.close)
        return Received(response.status_code, headers, body)

    def close(self) -> None:
        self._client.close()


class _Raw(httpx.SyncByteStream):
    """The wire's bytes for the HTTP library."""

    def __init__(self, exchange: BlockingExchange) -> None:
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._exchange)


class _Waiting:
    """How long the caller has waited."""

    def __init__(self, most: float | None) -> None:
        self._most = most
        self._since = time.monotonic()

    def again(self) -> None:
        self._since = time.monotonic()

    def check(self, error: Exception | None = None) -> None:
        waited = time.monotonic() - self._since
        if self._most is not None and waited >= self._most - 0.001:
            raise CallerTimeout(f"no answer within {self._most:g} seconds") from error


class _Timed:
    """A body whose reader waits so long and no longer: for all of it, or for each piece of a
    stream of events."""

    def __init__(self, received: Received, waiting: _Waiting) -> None:
        self._body, self._events, self._waiting = received.body, received.events, waiting

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                if not self._events:
                    self._waiting.check()
                yield piece
                self._waiting.again() if self._events else None
        except _TIMEOUTS as error:
            self._waiting.check(error)
            raise

    async def aclose(self) -> None:
        await self._body.aclose()
