"""Raw HTTP over a socket, for clients that do what no library would."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from provider.sdk_http import httpx

CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        body = json.loads(self.body)
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@contextmanager
def connected(port: int, seconds: float = 20.0) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        yield sock


def head(
    path: str = CHAT, method: str = "POST", /, *lines: str, length: int | None = None
) -> bytes:
    """A request's head for a JSON body of `length` bytes."""
    all_lines = [
        f"{method} {path} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        *([f"content-length: {length}"] if length is not None else []),
        *lines,
    ]
    return ("\r\n".join(all_lines) + "\r\n\r\n").encode("latin-1")


def post(body: bytes, path: str = CHAT) -> bytes:
    return head(path, length=len(body)) + body


def replies(sock: socket.socket, count: int = 1) -> list[Reply]:
    """The next responses on the connection, which must have a content-length each."""
    file = sock.makefile("rb")
    return [_reply(file) for _ in range(count)]


def _reply(file: Any) -> Reply:
    status = file.readline()
    if not status:
        raise ConnectionError("the server closed the connection")
    headers: dict[str, str] = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = file.read(int(headers.get("content-length", 0)))
    return Reply(int(status.split()[1]), headers, body)


def broken_off(pieces: Iterator[bytes]) -> bytes:
    """What a body had brought when it broke off; fails for one that ended cleanly."""
    received = b""
    try:
        for piece in pieces:
            received += piece
    except httpx.RemoteProtocolError:
        return received
    raise AssertionError("the body ended cleanly")


def closed(sock: socket.socket) -> bool:
    """Whether the server ends the connection, after whatever it still sends."""
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True
