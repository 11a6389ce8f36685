"""Reads a request's body within its limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Receive

from provider.errors import BodyTooLarge, InvalidRequest, RequestTimeout, UnsupportedMediaType
from server.errors import ClientGone

MEBIBYTE = 2**20


async def read_body(
    headers: Mapping[str, str], receive: Receive, *, limit: int, seconds: float
) -> bytes:
    """The body, at most `limit` bytes, all of it within `seconds`.

    Raises `BodyTooLarge` (413) as soon as the declared or the received size passes the limit,
    `RequestTimeout` (408) for a client that is too slow, `ClientGone` for one that hung up, and
    `InvalidRequest` (400) for a body that is compressed on the way.
    """
    if (coding := headers.get("transfer-encoding", "chunked").strip().lower()) != "chunked":
        raise InvalidRequest(f"Unsupported Transfer-Encoding: {coding!r}; expected 'chunked'.")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece = message.get("body", b"")
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                pieces.append(piece)
                more = message.get("more_body", False)
    except TimeoutError:
        raise RequestTimeout(
            f"The request's body did not arrive within {seconds:g} seconds.",
            headers={"connection": "close"},
        ) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def require_json(headers: Mapping[str, str]) -> None:
    """Refuses a body that is not declared as plain JSON (415).

    A missing type is refused too: browsers send such requests to a local server from any page
    without asking it first, and they never do so with `application/json`.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        said = f"got {media_type!r}" if media_type else "the header is missing"
        raise UnsupportedMediaType(
            f"Unsupported Content-Type: expected 'application/json', {said}."
        )
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(
            f"Unsupported Content-Encoding: {encoding!r}; send the JSON uncompressed."
        )


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request's body is larger than the {limit / MEBIBYTE:g} MiB that this server accepts."
    )
