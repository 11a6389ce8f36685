"""A provider that puts a span around each GenAI operation of the one it holds."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from provider.base import ApiRequest, ApiResponse, ByteStream, Holder, Provider
from provider.errors import ApiError
from provider.tracing.answer import Answer
from provider.tracing.attributes import OPERATIONS, Attributes, model_of, of_request
from provider.tracing.content import input_messages

ERROR_TYPE = "error.type"


@dataclass(frozen=True, slots=True)
class Manner:
    """How spans are made: by which tracer, as which kind, with which attributes on each of them
    (`server.address`), and whether prompts and answers are kept."""

    tracer: trace.Tracer
    kind: SpanKind = SpanKind.CLIENT
    fixed: Attributes = field(default_factory=dict)
    content: bool = False


class Traced(Holder):
    """A provider whose answers are spans, under the name `name`.

    A span's parent is the current one, else the one that the request's `traceparent` names; the
    provider below is sent a `traceparent` of its own. A stream's span ends with the stream.
    """

    forwards_here = True

    def __init__(self, inner: Provider, name: str, manner: Manner) -> None:
        super().__init__(inner)
        self._name = name
        self._manner = manner

    async def answer(self, request: ApiRequest) -> ApiResponse:
        operation = OPERATIONS.get(request.path) if request.method == "POST" else None
        if operation is None:
            return await self._inner.answer(request)
        span = self._begin(operation, request)
        answering = Answering(span, self._manner.content)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                response = await self._inner.answer(_onwards(request))
        except BaseException as error:
            answering.failed(error)
            raise
        if isinstance(response.body, bytes):
            answering.whole(response.status, response.body)
            return response
        return replace(response, body=_TracedStream(response.body, answering))

    def _begin(self, operation: str, request: ApiRequest) -> Span:
        asked = _asked(request)
        model = model_of(asked)
        span = self._manner.tracer.start_span(
            f"{operation} {model}" if model else operation,
            context=_parent(request.headers),
            kind=self._manner.kind,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": self._name,
                **self._manner.fixed,
                **of_request(asked),
            },
        )
        if operation == "chat" and self._name == "openai":
            kind = "responses" if request.path.endswith("/responses") else "chat_completions"
            span.set_attribute("openai.api.type", kind)
        if self._manner.content and span.is_recording() and operation == "chat":
            span.set_attribute("gen_ai.input.messages", input_messages(asked))
        return span


class Answering:
    """The span of one answer, from its first byte to its end; it is ended once."""

    def __init__(self, span: Span, content: bool) -> None:
        self._span = span
        self._began = time.perf_counter()
        self._answer = Answer(content) if span.is_recording() else None
        self._over = False

    def whole(self, status: int, body: bytes) -> None:
        if self._answer is not None and status < 400:
            self._answer.whole(body)
        self._end(None if status < 400 else _error_type(status, body))

    def first(self) -> None:
        took = time.perf_counter() - self._began
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", took)

    def piece(self, piece: bytes) -> None:
        if self._answer is not None:
            self._answer.piece(piece)

    def left(self) -> None:
        """The stream was closed by its reader; that is no error of the operation's."""
        if not self._over:
            self._span.set_attribute("sllm.stream.left", True)
        self._end(None)

    def ended(self) -> None:
        self._end(self._answer.error if self._answer is not None else None)

    def failed(self, error: BaseException) -> None:
        if isinstance(error, ApiError):
            self._end(error.code or str(error.status))
        else:
            self._end(f"{type(error).__module__}.{type(error).__qualname__}")

    def _end(self, error_type: str | None) -> None:
        if self._over:
            return
        self._over = True
        if self._answer is not None:
            self._span.set_attributes(self._answer.attributes())
        if error_type is not None:
            self._span.set_attribute(ERROR_TYPE, error_type)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class _TracedStream:
    def __init__(self, body: ByteStream, answering: Answering) -> None:
        self._body, self._answering = body, answering

    async def __aiter__(self) -> AsyncIterator[bytes]:
        first = True
        try:
            async for piece in self._body:
                if first:
                    first = False
                    self._answering.first()
                self._answering.piece(piece)
                yield piece
        except GeneratorExit:
            raise
        except BaseException as error:
            self._answering.failed(error)
            raise
        self._answering.ended()

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            self._answering.left()


def _asked(request: ApiRequest) -> Mapping[str, Any]:
    """The request's body; nothing where it is not JSON, which is for the provider to refuse."""
    try:
        return request.json
    except ApiError:
        return {}


def _parent(headers: Mapping[str, str]) -> Context | None:
    if trace.get_current_span().get_span_context().is_valid:
        return None
    return propagate.extract(headers)


def _onwards(request: ApiRequest) -> ApiRequest:
    """The request with the current span as the parent of what the provider below makes of it."""
    headers = dict(request.headers)
    propagate.inject(headers)
    return request.with_headers(headers)


def _error_type(status: int, body: bytes) -> str:
    """The code in OpenAI's error body, else the status."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        code = None
    return code if isinstance(code, str) and len(code) <= 64 else str(status)
