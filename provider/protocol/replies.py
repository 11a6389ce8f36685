"""From an engine's events to the reply asked for: one completion, or a stream of chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from provider.engine.request import Done, Event, Finished, Piece, Usage
from provider.protocol import sse
from provider.protocol.chat import ChatRequest
from provider.protocol.chunks import Chunks
from provider.protocol.completion import Answer, Head
from provider.protocol.constraints import reader


def answers(request: ChatRequest) -> list[Answer]:
    """The request's n answers, none of them begun."""
    tools = request.tools
    return [
        Answer(
            index,
            reader(request),
            logprobs=request.logprobs is not None,
            legacy=tools.legacy,
            forced=tools.mode == "named",
        )
        for index in range(request.n)
    ]


async def completed(
    request: ChatRequest, head: Head, events: AsyncGenerator[Event, None]
) -> dict[str, Any]:
    """The whole `chat.completion`; `events` are closed whatever happens."""
    grown = answers(request)
    usage = Usage(0, 0)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Piece):
                grown[event.index].grow(event.text, event.logprobs)
            elif isinstance(event, Finished):
                grown[event.index].end(event.reason)
            else:
                usage = event.usage
    return head.completion([answer.choice() for answer in grown], usage)


async def begun(events: AsyncGenerator[Event, None]) -> Event:
    """The first event, waited for so that a refusal still has its own status."""
    try:
        return await anext(events)
    except BaseException:
        await events.aclose()
        raise


async def streamed(
    request: ChatRequest, head: Head, events: AsyncGenerator[Event, None]
) -> sse.EventStream:
    first = await begun(events)
    chunks = Chunks(head, answers(request), include_usage=request.include_usage)
    return sse.EventStream(_chunks(chunks, first, events), events.aclose)


async def _chunks(
    chunks: Chunks, first: Event, events: AsyncIterator[Event]
) -> AsyncIterator[dict[str, Any]]:
    for chunk in _SAY[type(first)](chunks, first):
        yield chunk
    async for event in events:
        for chunk in _SAY[type(event)](chunks, event):
            yield chunk


def _piece(chunks: Chunks, event: Any) -> Iterator[dict[str, Any]]:
    chunks.counted(event.usage)
    return chunks.piece(event.index, event.text, event.logprobs)


def _finished(chunks: Chunks, event: Any) -> Iterator[dict[str, Any]]:
    chunks.counted(event.usage)
    return chunks.finished(event.index, event.reason)


def _done(chunks: Chunks, event: Any) -> Iterator[dict[str, Any]]:
    return chunks.done(event.usage)


_SAY: dict[type, Callable[[Chunks, Any], Iterator[dict[str, Any]]]] = {
    Piece: _piece,
    Finished: _finished,
    Done: _done,
}
