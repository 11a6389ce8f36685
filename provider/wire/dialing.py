"""Opens connections: every address of a host, the next one a little after the last (RFC 8305)."""

from __future__ import annotations

import asyncio
import itertools
import socket
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from provider.wire.connection import Connection
from provider.wire.failures import unconnected

_HEAD_START = 0.25
"""Seconds that an address has for itself before the next one is tried beside it."""

Address = tuple[int, int, int, str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: `trust` None means plain HTTP."""

    host: str
    port: int
    trust: SSLContext | None = None


async def dialed(origin: Origin, seconds: float) -> Connection:
    """A new connection; `seconds` for TCP, and as many again for TLS.

    Raises `CannotConnect`, of which `ConnectTimedOut` is one.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            opened = await _raced(await _addresses(origin))
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(
                Connection,
                sock=opened,
                ssl=origin.trust,
                server_hostname=origin.host if origin.trust is not None else None,
            )
    except (OSError, UnicodeError) as error:
        raise unconnected(error, seconds) from error
    return connection


async def _addresses(origin: Origin) -> list[Address]:
    """The host's addresses, the two families in turn."""
    found = await asyncio.get_running_loop().getaddrinfo(
        origin.host, origin.port, type=socket.SOCK_STREAM
    )
    first = [address for address in found if address[0] == found[0][0]]
    others = [address for address in found if address[0] != found[0][0]]
    paired = itertools.zip_longest(first, others)
    return [address for pair in paired for address in pair if address is not None]


async def _raced(addresses: list[Address]) -> socket.socket:
    """The first socket that connects; the others are closed. Raises the last `OSError`."""
    running: set[asyncio.Task[socket.socket]] = set()
    failure: BaseException = OSError("the host has no address")
    waiting = list(addresses)
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_opened(waiting.pop(0))))
            done, running = await asyncio.wait(
                running,
                timeout=_HEAD_START if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if (error := task.exception()) is None:
                    return task.result()
                failure = error
        raise failure
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_closed)


async def _opened(address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(opened, where)
    except BaseException:
        opened.close()
        raise
    return opened


def _closed(task: asyncio.Task[socket.socket]) -> None:
    """One that connected although another was first."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
