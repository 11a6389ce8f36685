"""One HTTP/1.1 connection, with the limits that uvicorn's own does not have.

uvicorn's httptools protocol waits for ever for a request's head, keeps headers of any size, takes
trailers for headers, says 400 in plain text, loses the body of a request that offers an upgrade (as
Java's HTTP client does), and misses the hang-up of a client that has pipelined a second request.
This subclass closes those gaps; everything else is uvicorn's.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from provider.errors import ApiError, InvalidRequest, RequestTimeout
from server.errors import error_bytes
from server.exchange import ABORT, request_id
from server.joined import JoinedWrites

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_URL_BYTES = 16 * 1024


class UriTooLong(InvalidRequest):
    status = 414
    default_code = "uri_too_long"


class HeadersTooLarge(InvalidRequest):
    status = 431
    default_code = "request_headers_too_large"


class GuardedConnection(HttpToolsProtocol):
    """`head_seconds`: until a request's head must be complete; `stuck_seconds`: until a client
    that no longer reads or never ends its body is dropped."""

    head_seconds: ClassVar[float] = 30.0
    stuck_seconds: ClassVar[float] = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._active: RequestResponseCycle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: ApiError | None = None
        self._in_head = False
        self._header_bytes = 0
        self._silent_bytes = 0
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        # uvicorn tells only the newest request of a pipeline, which is not the one that runs.
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True
            self._active.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._silent_bytes += len(data)
        self._received = data
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._silent_bytes > MAX_HEAD_BYTES:
            self._refusal = _headers_too_large()
            self.send_400_response("")
        elif self._head_timer is None and self._idle:
            self._await_head()

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    # What the parser found; each call is progress.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._header_bytes = self._silent_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._silent_bytes = 0
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(UriTooLong(f"The URL is longer than {MAX_URL_BYTES} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._silent_bytes = 0
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._refuse(_headers_too_large())
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._silent_bytes = 0
        if self._offers_upgrade:
            return
        self._in_head = False
        self._head_arrived()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._offers_upgrade:
            super().on_message_complete()

    # An offer to speak another protocol (h2c, WebSocket) is one that a server may pass over, but
    # the parser stops at it. So the request is parsed again from its head without the offer.

    @property
    def _offers_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        stopped = sys.exception()
        offset = stopped.args[0] if stopped is not None else len(self._received)
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [
            b"%s: %s" % header
            for header in self.headers
            if header[0] not in (b"upgrade", b"connection")
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + self._received[offset:])

    # What follows from it.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        cast(dict[str, Any], cycle.scope)[ABORT] = self.transport.abort
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self.transport.is_closing() or (self._active and self._active.more_body):
            # Waiting to be read, or reading a body that nobody wants: neither may last.
            self.loop.call_later(self.stuck_seconds, self._drop_if_stuck, self._active)
        super().on_response_complete()

    def _drop_if_stuck(self, cycle: RequestResponseCycle | None) -> None:
        if self.transport.is_closing() or (cycle is not None and cycle.more_body):
            self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.stuck_seconds, self.transport.abort)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_overdue)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._refusal = RequestTimeout(
                f"The request's head did not arrive within {self.head_seconds:g} seconds."
            )
            self.send_400_response("")
        else:
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Stops the parser; it reports to `send_400_response`."""
        self._refusal = error
        raise error

    def send_400_response(self, msg: str) -> None:
        """The end of a connection that does not speak HTTP, or too much of it."""
        if not self._idle and self._active is not None and self._active.response_started:
            # Nothing may be mixed into a response that is on its way.
            self.transport.close()
            return
        error = self._refusal or InvalidRequest(
            "The request is not valid HTTP/1.1.", code="invalid_http"
        )
        self.transport.write(_whole_response(error))
        self.transport.close()


def guarded(head_seconds: float, stuck_seconds: float) -> type[GuardedConnection]:
    """The connection class with its time limits."""
    limits = {"head_seconds": head_seconds, "stuck_seconds": stuck_seconds}
    return type("GuardedConnection", (GuardedConnection,), limits)


def _headers_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(
        f"The request's headers are larger than {MAX_HEAD_BYTES} bytes or more than {MAX_HEADERS}."
    )


def _whole_response(error: ApiError) -> bytes:
    body = error_bytes(error)
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"x-request-id: {request_id({})}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
