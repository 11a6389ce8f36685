"""A stream that breaks off must not look like one that ended.

OpenAI ends a stream with a `finish_reason` per choice and `data: [DONE]`. An upstream whose stream
just stops (a crash behind a proxy that closes cleanly) would give the app half an answer as if it
were whole. This provider holds a hosted one and raises instead; the bytes are passed on untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace

from provider.base import ApiRequest, ApiResponse, ByteStream, Holder
from provider.errors import BadGateway

_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
_DONE = re.compile(rb"(?:^|\n)data:\s*\[DONE\]")
_TAIL = 64
"""Bytes kept between pieces, so that a mark that is cut in two is still seen."""


class Integrity(Holder):
    """Checks that each chat stream ended, and that each JSON body is JSON.

    Raises `BadGateway` (502) for a 200 whose body is not JSON, and from within the stream for one
    that stops early.
    """

    async def answer(self, request: ApiRequest) -> ApiResponse:
        response = await self._inner.answer(request)
        if isinstance(response.body, bytes):
            if response.status == 200 and _claims_json(response):
                _check_json(response.body)
            return response
        if not request.path.endswith("/completions"):
            return response
        return replace(response, body=_Checked(response.body))


class _Checked:
    def __init__(self, body: ByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        finished = done = False
        tail = b""
        async for piece in self._body:
            seen = tail + piece
            finished = finished or _REASON.search(seen) is not None
            done = done or _DONE.search(seen) is not None
            tail = seen[-_TAIL:]
            yield piece
        if not (finished and done):
            raise BadGateway("The upstream's stream ended before its answer was complete.")

    async def aclose(self) -> None:
        await self._body.aclose()


def _claims_json(response: ApiResponse) -> bool:
    return response.headers.get("content-type", "").startswith("application/json")


def _check_json(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError as error:
        raise BadGateway("The upstream's answer is not JSON.") from error
