"""The real server on a port of loopback, in a thread of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from provider.base import Provider
from provider.settings import Settings
from server.app import create_app
from server.listening import Server, bind, server_for


@dataclass
class Live:
    port: int
    app: FastAPI
    server: Server
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


@contextmanager
def live(provider: Provider, **values: Any) -> Iterator[Live]:
    """Serves `provider` with these settings until the block ends."""
    chosen = settings(**values)
    app = create_app(provider, chosen)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    started = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def on_started() -> None:
        loops.append(asyncio.get_running_loop())
        started.set()

    server = server_for(app, chosen, on_started)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    if not started.wait(30):
        raise AssertionError("the server did not start")
    running = Live(port, app, server, thread, loops[0])
    try:
        yield running
    finally:
        running.stop()
