"""The outermost layer: every request gets an id, an OpenAI-shaped end, a log line and a metric."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from provider.errors import ApiError
from server import logs
from server.drain import shutting_down
from server.errors import ClientGone, error_event, internal, send_error
from server.exchange import KEY, Exchange
from server.metrics import Metrics
from server.tracing import Spans, no_spans

HANGUP_STATUS = 499
"""The status logged for a client that left before its answer began (nginx's convention)."""


class Boundary:
    """Pure ASGI middleware: nothing is buffered, and no exception passes it.

    A failure before the first byte is an OpenAI error response; after it, an error event (for
    server-sent events) and a broken-off body, never a clean end.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, spans: Spans = no_spans) -> None:
        self._app = app
        self._metrics = metrics
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange.of(scope)
        inner = {**scope, KEY: exchange}
        if scope["method"] == "HEAD":
            # As GET; the HTTP server leaves the body out.
            inner["method"] = exchange.method = "GET"
        try:
            with self._spans(exchange):
                await self._answer(exchange, inner, receive, exchange.recording(send))
        finally:
            self._metrics.request_done(exchange)
            logs.request_done(exchange)

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ApiError as error:
            await _fail(exchange, error, send)
        except ClientGone:
            exchange.outcome = "hangup"
            exchange.status = exchange.status or HANGUP_STATUS
        except asyncio.CancelledError as error:
            if exchange.expired:
                await _fail(exchange, shutting_down(), send)
            elif _cancelled_from_outside():
                raise
            else:
                await self._unexpected(exchange, error, send)
        except Exception as error:  # noqa: BLE001 - the outermost handler
            await self._unexpected(exchange, error, send)

    @staticmethod
    async def _unexpected(exchange: Exchange, error: BaseException, send: Send) -> None:
        logs.unexpected(exchange, error)
        await _fail(exchange, internal(exchange.request_id), send)


def _cancelled_from_outside() -> bool:
    """Whether this task itself was cancelled; otherwise a provider let a cancellation of its own
    escape, which is a failure like any other."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _fail(exchange: Exchange, error: ApiError, send: Send) -> None:
    """Ends the request with `error`, in whatever way its progress still allows.

    Leaving a started response incomplete makes the HTTP server close the connection, so that the
    client sees a body that broke off.
    """
    if not exchange.started:
        exchange.outcome = error.code or error.type
        await send_error(send, error)
        return
    exchange.outcome = f"broken: {error.code or error.type}"
    if exchange.events and not exchange.error_told:
        body = error_event(error)
        if not exchange.at_boundary:
            body = b"\n\n" + body
        await send({"type": "http.response.body", "body": body, "more_body": True})
