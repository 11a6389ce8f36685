"""Replies on the wire: in order, or broken the way a fault says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.standin.api import Reply
from tests.standin.faults import Fault
from tests.standin.record import Recorded
from tests.standin.wire import Wire

Misbehaviour = Callable[[Fault, Reply, Wire], Awaitable[None]]


async def deliver(reply: Reply, wire: Wire, request: Recorded) -> None:
    """Send the reply; a stream stops when the client leaves."""
    request.status = reply.status
    if reply.events is None:
        request.answer = reply.body
        await send_whole(reply, wire)
    else:
        await _stream(reply, wire, request)
    request.ended = request.ended or ("disconnected" if wire.gone.is_set() else "complete")


async def send_whole(reply: Reply, wire: Wire) -> None:
    length = ("content-length", str(len(reply.body)))
    await wire.start(reply.status, [*reply.headers, length])
    await wire.write(reply.body, more=False)


async def _stream(reply: Reply, wire: Wire, request: Recorded) -> None:
    await wire.start(reply.status, reply.headers)
    for event in reply.events or ():
        if wire.gone.is_set():
            request.ended = "disconnected"
            return
        request.answer += event
        await wire.write(event)
        await asyncio.sleep(0)
    await wire.write(b"", more=False)
