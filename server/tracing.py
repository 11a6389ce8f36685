"""A span around each request of the API, going on where the client's `traceparent` points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from server.exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

Spans = Callable[[Exchange], AbstractContextManager[None]]
"""Puts a span around the answering of an exchange."""

_UNTRACED = frozenset({"/health", "/ready", "/metrics"})
"""What probes ask every few seconds."""


def no_spans(exchange: Exchange) -> AbstractContextManager[None]:
    """Tracing that is off."""
    return nullcontext()


def spans(tracer: Tracer | None) -> Spans:
    """Server spans by OpenTelemetry's HTTP conventions: method, route, status, and the error."""
    if tracer is None:
        return no_spans
    from opentelemetry import propagate, trace

    @contextmanager
    def around(exchange: Exchange) -> Iterator[None]:
        if exchange.path in _UNTRACED:
            yield
            return
        span = tracer.start_span(
            exchange.method,
            context=propagate.extract(exchange.headers),
            kind=trace.SpanKind.SERVER,
            attributes={
                "http.request.method": exchange.method,
                "url.path": exchange.path,
                "url.scheme": "http",
                "sllm.request_id": exchange.request_id,
            },
        )
        exchange.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        with trace.use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            try:
                yield
            finally:
                _conclude(span, exchange)

    return around


def _conclude(span: Span, exchange: Exchange) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.update_name(f"{exchange.method} {exchange.route}")
    span.set_attribute("http.route", exchange.route)
    if exchange.status:
        span.set_attribute("http.response.status_code", exchange.status)
    if exchange.status >= 500 or exchange.outcome.startswith("broken"):
        span.set_attribute("error.type", exchange.outcome)
        span.set_status(Status(StatusCode.ERROR))
