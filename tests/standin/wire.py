"""One HTTP exchange, as far down as a test needs to go: ASGI messages, or the bare connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Wire:
    """The answering side of one request."""

    def __init__(
        self, receive: Receive, send: Send, transport: asyncio.WriteTransport | None
    ) -> None:
        self._receive = receive
        self._send = send
        self._transport = transport
        self.gone = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None

    async def body(self) -> bytes:
        """The request's whole body; from then on a disconnect of the client sets `gone`."""
        parts = []
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                break
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        self._listener = asyncio.create_task(self._listen())
        return b"".join(parts)

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone.set()

    async def finish(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, data: bytes, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def pause(self, seconds: float) -> None:
        """Wait, but not for a client that has left."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), seconds)

    @property
    def connection(self) -> asyncio.WriteTransport:
        if self._transport is None:
            raise RuntimeError("this fault needs the real server: use tests.standin.serve()")
        return self._transport

    def raw(self, data: bytes) -> None:
        """Bytes on the connection, past every rule of HTTP."""
        self.connection.write(data)

    async def close(self) -> None:
        """End the connection in order (FIN) and wait until it is gone."""
        self.connection.close()
        await self.gone.wait()

    async def reset(self) -> None:
        """End the connection at once (RST); what was written before has a moment to arrive."""
        await asyncio.sleep(0.02)
        sock = self.connection.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.abort()
        await self.gone.wait()
