"""How streams go wrong: silently, loudly, or not at all although it looks like it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable

from tests.standin.api import Reply
from tests.standin.delivery import send_whole
from tests.standin.faults import Fault
from tests.standin.wire import Wire

Misbehaviour = Callable[[Fault, Reply, Wire], Awaitable[None]]


async def _begin(fault: Fault, reply: Reply, wire: Wire) -> list[bytes]:
    """Send the first `after` events; the rest is returned."""
    events = list(reply.events or ())
    after = int(fault.number("after", 2))
    await wire.start(reply.status, reply.headers)
    for event in events[:after]:
        await wire.write(event)
        await asyncio.sleep(0)
    return events[after:]


async def _truncated(fault: Fault, reply: Reply, wire: Wire) -> None:
    await _begin(fault, reply, wire)
    await wire.write(b"", more=False)


async def _no_done(fault: Fault, reply: Reply, wire: Wire) -> None:
    await wire.start(reply.status, reply.headers)
    await wire.write(reply.whole().removesuffix(b"data: [DONE]\n\n"), more=False)


async def _reset(fault: Fault, reply: Reply, wire: Wire) -> None:
    await _begin(fault, reply, wire)
    await wire.reset()


async def _cut_event(fault: Fault, reply: Reply, wire: Wire) -> None:
    rest = await _begin(fault, reply, wire)
    await wire.write(rest[0][: len(rest[0]) // 2])
    await wire.close()


async def _error(fault: Fault, reply: Reply, wire: Wire) -> None:
    await _begin(fault, reply, wire)
    error = {
        "message": "The server had an error processing your request. Sorry about that!",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    await wire.write(f"data: {json.dumps({'error': error})}\n\n".encode(), more=False)


async def _garbage(fault: Fault, reply: Reply, wire: Wire) -> None:
    rest = await _begin(fault, reply, wire)
    await wire.write(b'data: {"id": "chatcmpl-1", "choi\n\n' + b"".join(rest), more=False)


async def _stall(fault: Fault, reply: Reply, wire: Wire) -> None:
    await _begin(fault, reply, wire)
    await wire.gone.wait()


async def _endless(fault: Fault, reply: Reply, wire: Wire) -> None:
    """The second event (a piece of text) again and again; `seconds` (.002) apart."""
    events = list(itertools.islice(reply.events or (), 2))
    await wire.start(reply.status, reply.headers)
    await wire.write(events[0])
    while not wire.gone.is_set():
        await wire.write(events[-1])
        await wire.pause(fault.number("seconds", 0.002))


async def _split(fault: Fault, reply: Reply, wire: Wire) -> None:
    whole, size = reply.whole(), int(fault.number("size", 5))
    await wire.start(reply.status, reply.headers)
    for start in range(0, len(whole), size):
        await wire.write(whole[start : start + size])
        await asyncio.sleep(0)
    await wire.write(b"", more=False)


async def _comments(fault: Fault, reply: Reply, wire: Wire) -> None:
    await wire.start(reply.status, reply.headers)
    await wire.write(b": connected\r\n\r\n")
    for number, event in enumerate(reply.events or ()):
        line = event.removesuffix(b"\n\n")
        named = b"id: %d\r\n%b\r\n: still here\r\n\r\n" % (number, line)
        await wire.write(named)
    await wire.write(b"", more=False)


async def _glued(fault: Fault, reply: Reply, wire: Wire) -> None:
    await wire.start(reply.status, reply.headers)
    await wire.write(reply.whole(), more=False)


async def _not_streamed(fault: Fault, reply: Reply, wire: Wire) -> None:
    body = b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": []}'
    headers = [h for h in reply.headers if h[0] != "content-type"]
    await send_whole(Reply(200, [("content-type", "application/json"), *headers], body), wire)


STREAM_FAULTS: dict[str, Misbehaviour] = {
    "stream_truncated": _truncated,
    "stream_no_done": _no_done,
    "stream_reset": _reset,
    "stream_cut_event": _cut_event,
    "stream_error": _error,
    "stream_garbage": _garbage,
    "stream_stall": _stall,
    "stream_endless": _endless,
    "stream_split": _split,
    "stream_comments": _comments,
    "stream_glued": _glued,
    "stream_not_streamed": _not_streamed,
}
