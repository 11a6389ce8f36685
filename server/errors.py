"""Everything that can go wrong, in OpenAI's words and shape.

FastAPI and Starlette answer 404, 405 and validation errors with `{"detail": ...}`; here each is
translated into `provider.errors` and sent by the one outermost layer (`server.boundary`).
"""

from __future__ import annotations

import json
from typing import NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Send

from provider.errors import (
    ApiError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ServerError,
)
from server.headers import encoded


class ClientGone(Exception):
    """The client hung up; there is nobody to answer."""


def invalid_url(method: str, path: str) -> NotFound:
    """OpenAI's own wording for a path that does not exist."""
    return NotFound(f"Invalid URL ({method} {path})")


def not_allowed(method: str, path: str, allow: str) -> MethodNotAllowed:
    """OpenAI's own wording for a method that a path does not know; `allow` lists those it does."""
    return MethodNotAllowed(
        f"Not allowed to {method} on {path} "
        "(HINT: Perhaps you meant to use a different HTTP method?)",
        headers={"allow": allow},
    )


def internal(request_id: str) -> ServerError:
    """What a client is told about a failure of ours: nothing but where to look it up."""
    return ServerError(
        "The server had an error while processing your request. Sorry about that! You can retry "
        f"your request; the server's log has the details under request id {request_id}."
    )


async def _http_exception(request: Request, error: Exception) -> NoReturn:
    if isinstance(error, HTTPException) and error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        raise not_allowed(request.method, request.url.path, allow) from None
    if isinstance(error, HTTPException) and error.status_code != 404:
        raise InvalidRequest(str(error.detail)) from None
    raise invalid_url(request.method, request.url.path) from None


async def _validation(request: Request, error: Exception) -> NoReturn:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    first = problems[0] if problems else {"loc": (), "msg": "invalid request"}
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    raise InvalidRequest(str(first["msg"]), param=param) from None


def replace_default_handlers(app: FastAPI) -> None:
    """No response of FastAPI's own making leaves the app."""
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation)


def error_bytes(error: ApiError) -> bytes:
    """The error's body. Half a surrogate pair quoted from a request goes back as its escape."""
    return json.dumps(error.body(), ensure_ascii=False).encode("utf-8", "backslashreplace")


def error_event(error: ApiError) -> bytes:
    """The error as a server-sent event, for a stream that has begun. No `[DONE]` follows it."""
    return b"data: " + error_bytes(error) + b"\n\n"


async def send_error(send: Send, error: ApiError) -> None:
    """The whole response for a request that failed before its first byte."""
    body = error_bytes(error)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **error.headers,
    }
    start = {"type": "http.response.start", "status": error.status}
    await send({**start, "headers": encoded(headers)})
    await send({"type": "http.response.body", "body": body})
