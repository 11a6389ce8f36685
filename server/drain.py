"""Graceful shutdown: nothing new is taken, what runs may finish within a set time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from provider.errors import Unavailable
from server.exchange import Exchange


def shutting_down() -> Unavailable:
    return Unavailable(
        "The server is shutting down. Please retry your request.",
        headers={"connection": "close"},
        retry_after=5,
    )


class Drain:
    """The requests under way, and whether the server is going down."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[object], Exchange] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    @property
    def running(self) -> int:
        return len(self._running)

    @contextmanager
    def entered(self, exchange: Exchange) -> Iterator[None]:
        """Registers the current task as answering `exchange`.

        Raises `Unavailable` (503) once the server is draining.
        """
        if self.draining:
            raise shutting_down()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered by a task")
        self._running[task] = exchange
        self._idle.clear()
        try:
            yield
        finally:
            del self._running[task]
            if not self._running:
                self._idle.set()

    async def finish(self, seconds: float) -> int:
        """Refuses new requests, waits up to `seconds` for those under way, then ends the rest.

        Returns how many were ended; each of their clients gets an error, none a clean end.
        """
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            late = list(self._running.items())
            for task, exchange in late:
                exchange.expired = True
                task.cancel()
            await self._idle.wait()
            return len(late)
        return 0
