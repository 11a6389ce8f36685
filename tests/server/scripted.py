"""A provider whose answers a test writes down beforehand, and which notes what reached it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from provider.base import ApiRequest, ApiResponse, Sample
from provider.errors import NotFound

Script = Callable[[ApiRequest], Awaitable[ApiResponse]]


class Pieces:
    """A stream of bytes; an exception among the pieces is raised in its place.

    `closed` is set when the stream was closed, however far it had come.
    """

    def __init__(self, *pieces: bytes | Exception, pause: float = 0.0, endless: bool = False):
        self._pieces = pieces
        self._pause = pause
        self._endless = endless
        self.sent = 0
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            for piece in self._pieces:
                await asyncio.sleep(self._pause)
                if isinstance(piece, Exception):
                    raise piece
                self.sent += 1
                yield piece
            if not self._endless:
                return

    async def aclose(self) -> None:
        self.closed.set()


@dataclass
class Scripted:
    """Answers each path by its script; another path does not exist."""

    scripts: dict[str, Script] = field(default_factory=dict)
    seen: list[ApiRequest] = field(default_factory=list)
    cancelled: int = 0
    closed: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    metrics: list[Sample] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)

    async def answer(self, request: ApiRequest) -> ApiResponse:
        self.seen.append(request)
        self.arrived.set()
        script = self.scripts.get(request.path)
        if script is None:
            raise NotFound(f"Invalid URL ({request.method} {request.path})")
        try:
            return await script(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def reached(self, count: int) -> None:
        """Waits until that many requests have arrived (on one event loop)."""
        while len(self.seen) < count:
            self.arrived.clear()
            await self.arrived.wait()

    def health(self) -> Mapping[str, Any]:
        return self.state

    def samples(self) -> list[Sample]:
        return self.metrics

    def describe(self) -> list[str]:
        return ["model     scripted"]

    async def aclose(self) -> None:
        self.closed = True


def says(body: Any, status: int = 200, **headers: str) -> Script:
    async def script(request: ApiRequest) -> ApiResponse:
        return ApiResponse.from_json(
            body, status, {name.replace("_", "-"): value for name, value in headers.items()}
        )

    return script


def streams(stream: Pieces) -> Script:
    async def script(request: ApiRequest) -> ApiResponse:
        return ApiResponse(200, {"content-type": "text/event-stream; charset=utf-8"}, stream)

    return script


def fails(error: BaseException) -> Script:
    async def script(request: ApiRequest) -> ApiResponse:
        raise error

    return script


async def never(request: ApiRequest) -> ApiResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def echoes(request: ApiRequest) -> ApiResponse:
    return ApiResponse.from_json({"got": request.json})
