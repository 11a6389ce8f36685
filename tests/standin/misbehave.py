"""How each fault looks on the wire."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus

from tests.standin.api import Reply
from tests.standin.delivery import send_whole
from tests.standin.errors import error_body
from tests.standin.faults import FAULTS, Fault
from tests.standin.misbehave_stream import STREAM_FAULTS
from tests.standin.wire import Wire

Misbehaviour = Callable[[Fault, Reply, Wire], Awaitable[None]]
_HTML = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
)


async def misbehave(fault: Fault, reply: Reply, wire: Wire) -> None:
    await _FAULTS[fault.name](fault, reply, wire)


def _error(
    status: int, type: str, code: str | None, message: str, *, ms: bool = False, date: bool = False
) -> Misbehaviour:
    async def act(fault: Fault, reply: Reply, wire: Wire) -> None:
        headers = [h for h in reply.headers if h[0] not in ("content-type", "openai-model")]
        if ms:
            headers.append(("retry-after-ms", fault.options.get("ms", "20")))
        elif date:
            headers.append(
                (
                    "retry-after",
                    formatdate(time.time() + fault.number("retry_after", 1), usegmt=True),
                )
            )
        elif "retry_after" in fault.options or code == "rate_limit_exceeded":
            headers.append(("retry-after", fault.options.get("retry_after", "1")))
        body = error_body({"message": message, "type": type, "param": None, "code": code})
        answered = int(fault.number("code", status))
        await send_whole(
            Reply(answered, [("content-type", "application/json"), *headers], body), wire
        )

    return act


def _body(status: int, kind: str, body: bytes, *more: tuple[str, str]) -> Misbehaviour:
    async def act(fault: Fault, reply: Reply, wire: Wire) -> None:
        await send_whole(Reply(status, [("content-type", kind), *more], body), wire)

    return act


async def _redirect(fault: Fault, reply: Reply, wire: Wire) -> None:
    to = fault.options.get("to", "http://192.0.2.1/v1/chat/completions")
    await send_whole(Reply(307, [("location", to)], b""), wire)


async def _bad_utf8(fault: Fault, reply: Reply, wire: Wire) -> None:
    body = reply.whole().replace(b'"object"', b'"\xff\xfeobject"', 1)
    await send_whole(Reply(200, reply.headers, body), wire)


async def _gzip(fault: Fault, reply: Reply, wire: Wire) -> None:
    headers = [*reply.headers, ("content-encoding", "gzip")]
    await send_whole(Reply(reply.status, headers, gzip.compress(reply.whole())), wire)


def _head(reply: Reply, *more: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (*reply.headers, *more)]
    return "\r\n".join([*lines, "", ""]).encode()


async def _close_before(fault: Fault, reply: Reply, wire: Wire) -> None:
    await wire.close()


async def _reset_before(fault: Fault, reply: Reply, wire: Wire) -> None:
    await wire.reset()


async def _short_body(fault: Fault, reply: Reply, wire: Wire) -> None:
    body = reply.whole()
    wire.raw(_head(reply, ("content-length", str(len(body) + 100))) + body)
    await wire.close()


async def _long_body(fault: Fault, reply: Reply, wire: Wire) -> None:
    body = reply.whole()
    wire.raw(_head(reply, ("content-length", str(len(body) // 2))) + body)
    await wire.close()


async def _reset_mid_body(fault: Fault, reply: Reply, wire: Wire) -> None:
    body = reply.whole()
    wire.raw(_head(reply, ("content-length", str(len(body)))) + body[: len(body) // 2])
    await wire.reset()


async def _garbage_status(fault: Fault, reply: Reply, wire: Wire) -> None:
    wire.raw(b"BANANA/9.9 two hundred\r\n\r\nhello")
    await wire.close()


async def _endless_headers(fault: Fault, reply: Reply, wire: Wire) -> None:
    wire.raw(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        if wire.gone.is_set() or number > 200_000:
            break
        wire.raw(f"x-header-{number}: {'y' * 50}\r\n".encode())
        if number % 100 == 0:
            await wire.pause(0.001)
    await wire.close()


async def _huge_header(fault: Fault, reply: Reply, wire: Wire) -> None:
    body = reply.whole()
    wire.raw(_head(reply, ("x-huge", "y" * 1_000_000), ("content-length", str(len(body)))) + body)
    await wire.close()


async def _informational(fault: Fault, reply: Reply, wire: Wire) -> None:
    wire.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
    await send_whole(Reply(reply.status, reply.headers, reply.whole()), wire)


async def _delay(fault: Fault, reply: Reply, wire: Wire) -> None:
    await wire.pause(fault.number("seconds", 1))
    await send_whole(Reply(reply.status, reply.headers, reply.whole()), wire)


async def _stall(fault: Fault, reply: Reply, wire: Wire) -> None:
    await wire.gone.wait()


async def _stall_mid_body(fault: Fault, reply: Reply, wire: Wire) -> None:
    body = reply.whole()
    await wire.start(reply.status, [*reply.headers, ("content-length", str(len(body)))])
    await wire.write(body[: len(body) // 2])
    await wire.gone.wait()


async def _slow_drip(fault: Fault, reply: Reply, wire: Wire) -> None:
    body, size = reply.whole(), int(fault.number("size", 8))
    await wire.start(reply.status, reply.headers)
    for start in range(0, len(body), size):
        await wire.write(body[start : start + size])
        await wire.pause(fault.number("seconds", 0.005))
        if wire.gone.is_set():
            return
    await wire.write(b"", more=False)


_LIMIT = (
    "Rate limit reached for gpt-4o-mini in organization org-standin on requests per min (RPM): "
    "Limit 3, Used 3, Requested 1. Please try again in 20s. Visit "
    "https://platform.openai.com/account/rate-limits to learn more."
)
_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more "
    "information on this error, read the docs: "
    "https://platform.openai.com/docs/guides/error-codes/api-errors."
)
_SERVER = (
    "The server had an error while processing your request. Sorry about that! You can retry your "
    "request, or contact us through our help center at help.openai.com if the error persists."
)
_BUSY = "The engine is currently overloaded, please try again later"
_JSON = "application/json"

_FAULTS: dict[str, Misbehaviour] = {
    "rate_limit": _error(429, "requests", "rate_limit_exceeded", _LIMIT),
    "rate_limit_ms": _error(429, "requests", "rate_limit_exceeded", _LIMIT, ms=True),
    "rate_limit_date": _error(429, "requests", "rate_limit_exceeded", _LIMIT, date=True),
    "insufficient_quota": _error(429, "insufficient_quota", "insufficient_quota", _QUOTA),
    "server_error": _error(500, "server_error", None, _SERVER),
    "unavailable": _error(503, "server_error", None, _BUSY),
    "timeout_status": _error(408, "invalid_request_error", None, "Request timed out."),
    "status": _error(418, "invalid_request_error", "teapot", "A status that tests asked for."),
    "bad_gateway_html": _body(502, "text/html", _HTML.format("502 Bad Gateway").encode()),
    "gateway_timeout_html": _body(504, "text/html", _HTML.format("504 Gateway Time-out").encode()),
    "plain_text_500": _body(500, "text/plain", b"Internal Server Error"),
    "error_without_body": _body(500, _JSON, b""),
    "redirect": _redirect,
    "invalid_json": _body(200, _JSON, b'{"id": "chatcmpl-1", "choices": [{"index": 0, "messa'),
    "not_an_object": _body(200, _JSON, json.dumps([1, 2, 3]).encode()),
    "empty_object": _body(200, _JSON, b"{}"),
    "empty_body": _body(200, _JSON, b""),
    "html_200": _body(200, "text/html", _HTML.format("Please sign in").encode()),
    "bad_utf8": _bad_utf8,
    "gzip": _gzip,
    "broken_gzip": _body(200, _JSON, b"this is not gzip at all", ("content-encoding", "gzip")),
    "close_before": _close_before,
    "reset_before": _reset_before,
    "short_body": _short_body,
    "long_body": _long_body,
    "reset_mid_body": _reset_mid_body,
    "garbage_status": _garbage_status,
    "endless_headers": _endless_headers,
    "huge_header": _huge_header,
    "informational": _informational,
    "delay": _delay,
    "stall": _stall,
    "stall_mid_body": _stall_mid_body,
    "slow_drip": _slow_drip,
    **STREAM_FAULTS,
}
if missing := set(FAULTS) ^ set(_FAULTS):
    raise RuntimeError(f"faults without a deed, or deeds without a name: {sorted(missing)}")
