"""The stand-in as an ASGI app: records, answers, and breaks what it is told to break."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.standin.api import reply
from tests.standin.delivery import deliver
from tests.standin.faults import Fault, FaultPlan
from tests.standin.misbehave import misbehave
from tests.standin.record import Recorded
from tests.standin.wire import Receive, Scope, Send, Wire


class StandIn:
    """OpenAI's API for one key. `base_url` is set once it is served."""

    def __init__(self, key: str = "sk-standin-0123456789abcdef") -> None:
        self.key = key
        self.base_url = ""
        self.requests: list[Recorded] = []
        self.faults = FaultPlan()
        self.connections: dict[Any, asyncio.WriteTransport] = {}

    @property
    def last(self) -> Recorded:
        return self.requests[-1]

    def reset(self) -> None:
        """Forget what was recorded and planned."""
        self.requests.clear()
        self.faults.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] != "http":
            return None
        client = tuple(scope["client"]) if scope.get("client") else None
        wire = Wire(receive, send, self.connections.get(client))
        request = Recorded(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            http_version=scope.get("http_version", "1.1"),
            raw_headers=tuple((bytes(k), bytes(v)) for k, v in scope["headers"]),
        )
        self.requests.append(request)
        request.body = await wire.body()
        try:
            await self._answer(request, wire)
        finally:
            request.left = wire.gone.is_set()
            await wire.finish()
        return None

    async def _answer(self, request: Recorded, wire: Wire) -> None:
        made = reply(request, self.key)
        fault = self._fault(request, made.streams)
        if fault is None:
            await deliver(made, wire, request)
            return
        request.fault, request.ended = fault.name, "fault"
        await misbehave(fault, made, wire)

    def _fault(self, request: Recorded, streams: bool) -> Fault | None:
        asked = request.headers.get("x-standin-fault")
        if asked:
            return Fault.parse(asked)
        return self.faults.take(request.path, streams)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
