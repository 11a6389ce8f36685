"""The events of several requests to the engine as if they were one request's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from provider.engine.request import Done, Event, Usage

_AT_ONCE = 16
"""Requests under way at a time, so that one client's list does not fill the queue."""


async def merged(
    streams: Sequence[AsyncGenerator[Event, None]], n: int
) -> AsyncGenerator[Event, None]:
    """Answer i of request k becomes answer `k * n + i`; one `Done` with the sum ends them.

    Raises what one of the streams raises, and closes them all then, as when it is closed itself.
    """
    events: asyncio.Queue[tuple[int, Event | None]] = asyncio.Queue()
    room = asyncio.Semaphore(_AT_ONCE)

    async def read(number: int, stream: AsyncGenerator[Event, None]) -> None:
        try:
            async with room, aclosing(stream):
                async for event in stream:
                    events.put_nowait((number, event))
        finally:
            events.put_nowait((number, None))

    reading = [asyncio.create_task(read(*numbered)) for numbered in enumerate(streams)]
    usage = Usage(0, 0)
    left = len(reading)
    try:
        while left:
            number, event = await events.get()
            if event is None:
                await reading[number]
                left -= 1
            elif isinstance(event, Done):
                usage = _sum(usage, event.usage)
            else:
                yield replace(event, index=number * n + event.index)
        yield Done(usage)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt + other.prompt,
        one.completion + other.completion,
        one.cached + other.cached,
        one.accepted_prediction + other.accepted_prediction,
        one.rejected_prediction + other.rejected_prediction,
    )
