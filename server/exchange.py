"""One request and its answer, as the layers of the server see it: identity, progress, outcome."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Scope, Send

from server.headers import encoded

KEY = "sllm.exchange"
"""Where a request's `Exchange` lies in its ASGI scope."""

ABORT = "sllm.abort"
"""Where a scope may carry a function that drops its connection without flushing it."""

OPENAI_VERSION = "2020-10-01"
"""The value of OpenAI's own `openai-version` response header."""

_ERROR_EVENTS = (b'data: {"error"', b"event: error\n")

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_FIXED_HEADERS = (
    (b"openai-version", OPENAI_VERSION.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(slots=True)
class Exchange:
    """What is known about a request while it is answered.

    `headers` are the client's (lower-case, duplicates joined by a comma). `extra` are response
    headers that a layer wants added. `route` is the path's template, never the path itself, so
    that it may label a metric. `outcome` says how it ended when the status does not. `error_told`:
    the last piece was an error event; `at_boundary`: it ended an event.
    """

    method: str
    path: str
    headers: dict[str, str]
    client: str
    request_id: str
    began: float = field(default_factory=time.perf_counter)
    route: str = "unmatched"
    key_id: str = ""
    status: int = 0
    started: bool = False
    events: bool = False
    expired: bool = False
    error_told: bool = False
    at_boundary: bool = True
    outcome: str = "complete"
    first_byte: float | None = None
    trace_id: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    extra: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope) -> Exchange:
        headers = joined(scope["headers"])
        peer = scope.get("client")
        return cls(
            method=scope["method"],
            path=scope["path"],
            headers=headers,
            client=peer[0] if peer else "",
            request_id=request_id(headers),
        )

    @property
    def seconds(self) -> float:
        """Seconds since the request's head arrived."""
        return time.perf_counter() - self.began

    def recording(self, send: Send) -> Send:
        """`send` that adds the headers every response carries and notes what went out."""

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note_start(message)
            else:
                self._note_body(message)
            await send(message)

        return recorded

    def _note_start(self, message: Message) -> None:
        self.started = True
        self.status = message["status"]
        own = dict(message.get("headers", ()))
        self.events = own.get(b"content-type", b"").startswith(b"text/event-stream")
        own.update(_FIXED_HEADERS)
        own[b"x-request-id"] = self.request_id.encode()
        own[b"openai-processing-ms"] = b"%d" % (self.seconds * 1000)
        own.setdefault(b"cache-control", b"no-store")
        own.update(encoded(self.extra))
        message["headers"] = list(own.items())

    def _note_body(self, message: Message) -> None:
        body = message.get("body", b"")
        if not body:
            return
        if self.first_byte is None:
            self.first_byte = self.seconds
        self.bytes_out += len(body)
        self.error_told = body.startswith(_ERROR_EVENTS)
        self.at_boundary = body.endswith(b"\n\n")


def joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header pairs as a mapping; a repeated name has its values joined by `, ` (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def request_id(headers: Mapping[str, str]) -> str:
    """The client's own id (`x-request-id`, `x-client-request-id`) if it is sane, else a new one.

    Sane is 1 to 128 letters, digits and `._:-`: it is logged and sent back.
    """
    for name in ("x-request-id", "x-client-request-id"):
        given = headers.get(name, "")
        if _SANE_ID.fullmatch(given):
            return given
    return f"req_{uuid.uuid4().hex}"


def exchange_of(scope: Mapping[str, Any]) -> Exchange:
    exchange: Exchange = scope[KEY]
    return exchange
