"""Listens below the SDK: each answer's bytes, exactly as they left the transport.

The SDK's types are forgiving; the bytes are what other clients see. `Wiretap.check` holds every
answer of a test to OpenAI's component schemas and every stream to OpenAI's order of chunks.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.contract import official
from tests.contract.official_responses import check_events

_COMPONENTS = {
    "/v1/chat/completions": "completion",
    "/v1/embeddings": "embeddings",
    "/v1/models": "models",
    "/v1/responses": "response",
    "/v1/responses/input_tokens": "input_tokens",
}


@dataclass
class Exchange:
    """One request and the bytes of its answer; `complete` once the answer was read to its end."""

    method: str
    path: str
    request: bytes
    status: int
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def check(self) -> None:
        if self.streamed and self.path == "/v1/responses":
            check_events(bytes(self.body), self.complete)
            return None
        if self.streamed:
            return check_stream(bytes(self.body), self.complete, json.loads(self.request))
        if not self.complete:
            return None
        assert self.headers["content-type"].startswith("application/json"), self.headers
        packed = self.headers.get("content-encoding") == "gzip"
        value = json.loads(gzip.decompress(self.body) if packed else self.body)
        if self.status >= 400:
            return official.check("error", value)
        return official.check(self._component(), value)

    def _component(self) -> str:
        if self.path.startswith("/v1/models/"):
            return "model"
        if self.path.endswith("/input_items"):
            return "input_items"
        if self.path.startswith("/v1/responses/resp_"):
            return "deleted" if self.method == "DELETE" else "response"
        return _COMPONENTS[self.path]


def check_stream(body: bytes, complete: bool, request: dict[str, Any]) -> None:
    """Chunks of one stream: schema, one head, roles first, one finish per answer, [DONE]."""
    events = [event for event in body.decode().split("\n\n") if event.strip()]
    if not complete and not body.endswith(b"\n\n"):
        events = events[:-1]
    data = [event.removeprefix("data: ") for event in events]
    assert all(event.startswith("data: ") for event in events), events[:3]
    if complete:
        assert data[-1] == "[DONE]", f"the stream ends with {data[-1]!r}"
    chunks = [json.loads(item) for item in data if item != "[DONE]"]
    for chunk in chunks:
        official.check("chunk", chunk)
    heads = {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}
    assert len(heads) <= 1, heads
    _check_choices(chunks, complete, request.get("n") or 1)
    _check_usage(chunks, complete, request)


def _check_choices(chunks: list[dict[str, Any]], complete: bool, n: int) -> None:
    by_index: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            by_index.setdefault(choice["index"], []).append(choice)
    if complete:
        assert set(by_index) == set(range(n)), by_index.keys()
    for choices in by_index.values():
        assert choices[0]["delta"].get("role") == "assistant", choices[0]
        assert not any("role" in choice["delta"] for choice in choices[1:])
        reasons = [choice["finish_reason"] for choice in choices]
        assert all(reason is None for reason in reasons[:-1]), reasons
        assert not complete or reasons[-1] is not None, "an answer without finish_reason"


def _check_usage(chunks: list[dict[str, Any]], complete: bool, request: dict[str, Any]) -> None:
    wanted = (request.get("stream_options") or {}).get("include_usage")
    if not wanted:
        assert all(chunk.get("usage") is None and chunk["choices"] for chunk in chunks)
        return
    assert all("usage" in chunk for chunk in chunks), "usage is null, not absent, until the end"
    if complete:
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"] is not None
        assert all(chunk["usage"] is None for chunk in chunks[:-1])


class Wiretap:
    """The exchanges of the clients it is attached to."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]

    def check(self) -> None:
        for exchange in self.exchanges:
            exchange.check()

    def attach(self, client: Any) -> None:
        """Listen below an `openai.OpenAI` or `AsyncOpenAI` and the copies made of it."""
        transport = client._client._transport
        if hasattr(transport, "handle_async_request"):
            transport.handle_async_request = self._heard_async(transport.handle_async_request)
        else:
            transport.handle_request = self._heard(transport.handle_request)

    def _heard(self, handle: Any) -> Any:
        def handle_request(request: Any) -> Any:
            response = handle(request)
            return self._listen(request, response, "SyncByteStream", _TeeSync)

        return handle_request

    def _heard_async(self, handle: Any) -> Any:
        async def handle_async_request(request: Any) -> Any:
            response = await handle(request)
            return self._listen(request, response, "AsyncByteStream", _TeeAsync)

        return handle_async_request

    def _listen(self, request: Any, response: Any, base: str, tee: type) -> Any:
        exchange = Exchange(
            method=request.method,
            path=request.url.path,
            request=request.content,
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
        )
        self.exchanges.append(exchange)
        if hasattr(response, "_content"):
            exchange.body += response.content
            exchange.complete = True
            return response
        library = sys.modules[type(response).__module__.split(".")[0]]
        stream = type("Tee", (tee, getattr(library, base)), {})
        response.stream = stream(response.stream, exchange)
        return response


class _TeeSync:
    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream, self._exchange = stream, exchange

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._exchange.body += piece
            yield piece
        self._exchange.complete = True

    def close(self) -> None:
        self._stream.close()


class _TeeAsync:
    """No generator: one that a reader leaves is finished by whatever the loop does next, and is
    an unraisable error of whichever test that is."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream, self._exchange = stream, exchange
        self._pieces: Any = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = aiter(self._stream)
        return self

    async def __anext__(self) -> bytes:
        try:
            piece: bytes = await anext(self._pieces)
        except StopAsyncIteration:
            self._exchange.complete = True
            raise
        self._exchange.body += piece
        return piece

    async def aclose(self) -> None:
        await self._stream.aclose()
