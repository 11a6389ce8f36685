"""Runs the app on uvicorn: binds first, drains on SIGTERM, and says in one sentence what fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from provider.errors import ConfigurationError
from server.drain import Drain

if TYPE_CHECKING:
    from provider.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection (5 s in httpx), so that they close it, not we."""

_SPARE_SECONDS = 5


def bind(host: str, port: int) -> socket.socket:
    """A bound socket, so that a port in use is known before a model is loaded.

    Raises `ConfigurationError`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's delay (40 ms an answer) off.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(_why_not(host, port, error)) from error
    return listener


def _why_not(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use by another program; stop it, choose another port "
            "with --port (or SLLM_PORT), or let --port 0 pick a free one."
        )
    if number == errno.EACCES:
        return f"Port {port} needs more rights than this user has; choose one above 1023."
    return f"The server cannot listen on {host}:{port}: {error}. Check --host (or SLLM_HOST)."


class Server(uvicorn.Server):
    """uvicorn's server that finishes or fails each request under way before it ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        seconds: float,
        on_started: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._seconds = seconds
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_started is not None:
            await self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = asyncio.create_task(self._drain.finish(self._seconds))
        await super().shutdown(sockets)
        if self.force_exit:
            draining.cancel()
        else:
            await draining

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that led to a clean end is not raised again after it."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self.should_exit and number == signal.SIGINT:
                self.force_exit = True
            self.should_exit = True

        handled = (signal.SIGINT, signal.SIGTERM)
        try:
            previous = {number: signal.signal(number, stop) for number in handled}
        except ValueError:
            # Not the main thread: whoever runs the server sets `should_exit`.
            yield
            return
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def server_for(
    app: FastAPI, settings: Settings, on_started: Callable[[], Awaitable[None]] | None = None
) -> Server:
    """The server of an app; run it with `.run(sockets=[bind(host, port)])`."""
    from server.connection import guarded

    logging.getLogger("uvicorn.error").addFilter(_not_our_aborts)
    config = uvicorn.Config(
        app,
        http=guarded(settings.sllm_read_timeout, settings.sllm_write_timeout),
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.sllm_drain_timeout) + _SPARE_SECONDS,
    )
    return Server(config, app.state.drain, settings.sllm_drain_timeout, on_started)


def _not_our_aborts(record: logging.LogRecord) -> bool:
    """A response broken off on purpose has its own line in our log, with the request's id."""
    return "without completing response" not in record.getMessage()
