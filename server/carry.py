"""Carries a request to the provider and its answer to the client.

The life of one: who calls, is there room, the whole body, the provider, the answer as it is made.
A client that hangs up cancels the provider's work at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from provider.base import ApiRequest, ApiResponse, ByteStream, Provider
from provider.errors import NotFound, UpstreamTimeout
from server import paths
from server.auth import Caller, Keys
from server.azure import DEPLOYMENT, with_model
from server.body import read_body, require_json
from server.drain import Drain
from server.errors import ClientGone, not_allowed
from server.exchange import ABORT, Exchange, exchange_of
from server.hangup import cancelled_by_hangup
from server.headers import encoded
from server.limits import Limits

if TYPE_CHECKING:
    from provider.settings import Settings

_NOT_CARRIED = frozenset(
    {"authorization", "connection", "content-length", "cookie", "expect", "host", "keep-alive"}
    | {"proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_NOT_RETURNED = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server", "set-cookie"}
    | {"openai-organization", "openai-project", "transfer-encoding", "upgrade"}
)
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Carrier:
    """Everything that carrying a request needs; one per app."""

    provider: Provider
    settings: Settings
    keys: Keys
    limits: Limits
    drain: Drain

    def endpoint(self, route: str, *, json: bool = False, admin: bool = False) -> ASGIApp:
        """What answers a route: `json` bodies are checked for their type, `admin` callers for the
        admin key."""
        return _Endpoint(self, route, json, admin)


class _StoppedReading(ClientGone):
    """The client keeps its connection open and reads nothing."""


def _nothing() -> None:
    """Stands in where the HTTP server offers no way to drop a connection."""


class _Endpoint:
    """Answers the requests of one route: plain ASGI, because there is nothing that FastAPI would
    read out of a request which is carried as it is."""

    def __init__(self, carrier: Carrier, route: str, json: bool, admin: bool) -> None:
        self._carrier, self._route, self._json, self._admin = carrier, route, json, admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = self._route
        with self._carrier.drain.entered(exchange):
            await self._exchange(exchange, scope, receive, send)

    async def _exchange(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        carrier = self._carrier
        identify = carrier.keys.administrator if self._admin else carrier.keys.caller
        caller = identify(exchange.headers, exchange.client)
        exchange.key_id = caller.id
        with carrier.limits.admitted(caller.id) as rate:
            exchange.extra.update(rate)
            if self._json:
                require_json(exchange.headers)
            request = await self._request(exchange, caller, scope, receive)
            try:
                async with cancelled_by_hangup(receive), self._deadline():
                    await self._deliver(request, send)
            except _StoppedReading:
                # Flushing would wait for the very client that does not read.
                scope.get(ABORT, _nothing)()
                raise

    async def _request(
        self, exchange: Exchange, caller: Caller, scope: Scope, receive: Receive
    ) -> ApiRequest:
        settings = self._carrier.settings
        path = paths.carried(scope)
        body = await read_body(
            exchange.headers,
            receive,
            limit=settings.sllm_max_body,
            seconds=settings.sllm_read_timeout,
        )
        exchange.bytes_in = len(body)
        if deployment := scope.get(DEPLOYMENT):
            body = with_model(body, deployment)
        deadline = time.monotonic() + settings.sllm_request_timeout
        return ApiRequest(
            method=exchange.method,
            path=path,
            headers=self._carried_headers(exchange),
            body=body,
            query=scope["query_string"].decode("latin-1"),
            context={"caller": caller.id, "admin": caller.admin, "deadline": deadline},
        )

    def _carried_headers(self, exchange: Exchange) -> dict[str, str]:
        """The client's headers without those of this hop; a key of ours never travels on."""
        headers = {k: v for k, v in exchange.headers.items() if k not in _NOT_CARRIED}
        if self._carrier.keys.open and "authorization" in exchange.headers:
            headers["authorization"] = exchange.headers["authorization"]
        headers["x-request-id"] = exchange.request_id
        return headers

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        seconds = self._carrier.settings.sllm_request_timeout
        try:
            async with asyncio.timeout(seconds) as scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise UpstreamTimeout(
                f"The request was not answered within {seconds:g} seconds and was given up.",
                code="deadline_exceeded",
                headers={"x-should-retry": "false"},
            ) from None

    async def _deliver(self, request: ApiRequest, send: Send) -> None:
        answer = await self._answer(request)
        headers = _returned(answer.headers)
        if isinstance(answer.body, bytes):
            headers["content-length"] = str(len(answer.body))
            await _start(send, answer.status, headers)
            await send({"type": "http.response.body", "body": answer.body})
        else:
            headers.setdefault("x-accel-buffering", "no")
            await self._stream(answer.status, headers, answer.body, send)

    async def _answer(self, request: ApiRequest) -> ApiResponse:
        try:
            return await self._carrier.provider.answer(request)
        except NotFound as error:
            allow = paths.allowed(request.path)
            if error.code is None and allow and request.method not in allow:
                raise not_allowed(request.method, request.path, ", ".join(allow)) from error
            raise

    async def _stream(
        self, status: int, headers: Mapping[str, str], body: ByteStream, send: Send
    ) -> None:
        """Sends each piece as it comes. The head waits for the first piece, so that a failure
        before it still has its own status."""
        started = False
        try:
            async for piece in body:
                if not started:
                    await _start(send, status, headers)
                    started = True
                if piece:
                    await self._send_piece(piece, send)
            if not started:
                await _start(send, status, headers)
            await send({"type": "http.response.body", "body": b""})
        finally:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await body.aclose()

    async def _send_piece(self, piece: bytes, send: Send) -> None:
        """Raises `_StoppedReading` for a client that takes nothing any more."""
        try:
            async with asyncio.timeout(self._carrier.settings.sllm_write_timeout):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            raise _StoppedReading from None


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": encoded(headers)})


def _returned(headers: Mapping[str, str]) -> dict[str, str]:
    """The provider's response headers without those of its own hop and account."""
    kept = {name.lower(): v for name, v in headers.items() if name.lower() not in _NOT_RETURNED}
    upstream = kept.pop("x-request-id", None)
    if upstream is not None:
        kept["x-upstream-request-id"] = upstream
    return kept
