"""An ASGI app on loopback, on a port that the system chooses, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.standin.app import StandIn


@contextlib.contextmanager
def serve(standin: StandIn | None = None) -> Iterator[StandIn]:
    """A served stand-in; `standin.base_url` ends in `/v1`."""
    standin = standin or StandIn()
    with serve_app(standin, http=_tracking(standin)) as origin:
        standin.base_url = f"{origin}/v1"
        yield standin


@contextlib.contextmanager
def serve_app(app: Any, **options: Any) -> Iterator[str]:
    """Serve any ASGI app with uvicorn; yields its origin, `http://127.0.0.1:PORT`."""
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        **options,
    )
    with running(uvicorn.Server(config), _listen()) as origin:
        yield origin


@contextlib.contextmanager
def running(server: uvicorn.Server, listener: socket.socket) -> Iterator[str]:
    """Run a uvicorn server on a listening socket in a thread; yields its origin."""
    failure: list[BaseException] = []
    thread = threading.Thread(
        target=_run, args=(server, listener, failure), name="loopback-server", daemon=True
    )
    thread.start()
    try:
        _wait(lambda: server.started or not thread.is_alive())
        if not server.started:
            raise RuntimeError("the server did not start") from next(iter(failure), None)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


def free_port() -> int:
    """A port that was free a moment ago, for servers that choose none themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listen() -> socket.socket:
    """A listening socket whose protocol is named: asyncio turns Nagle's delay (40 ms an answer)
    off only for those."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def _run(server: uvicorn.Server, listener: socket.socket, failure: list[BaseException]) -> None:
    try:
        asyncio.run(server.serve(sockets=[listener]))
    except BaseException as error:  # noqa: BLE001 - reported by the thread that waits
        failure.append(error)


def _wait(ready: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"the server was not ready after {seconds:g} seconds")
        time.sleep(0.005)


def _tracking(standin: StandIn) -> type[H11Protocol]:
    """uvicorn's protocol, which also tells the stand-in which connection a client has."""

    class Tracking(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            self._peer = transport.get_extra_info("peername")
            standin.connections[self._peer] = transport
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            standin.connections.pop(self._peer, None)
            super().connection_lost(exc)

    return Tracking
