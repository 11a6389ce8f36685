"""What a hosted upstream sends is passed on untouched, unless it would mislead the client.

A stream that breaks off must not look like one that ended: OpenAI ends a stream with a
`finish_reason` per choice and `data: [DONE]`, and an upstream whose stream just stops (a crash
behind a proxy that closes cleanly) would give the app half an answer as if it were whole. A stream
of the Responses API ends with an event whose response has ended. Likewise
a proxy's HTML page is not an answer, and a redirect is not followed, because it would take the key
to another host.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from provider.base import ApiRequest, ApiResponse, ByteStream, Holder
from provider.errors import ApiError, BadGateway
from provider.events import EventReader, Events
from provider.protocol.responses.read import finish_reason

_LONGEST_LINE = 16 * 2**20


class Integrity(Holder):
    """A provider that vouches for the form of what a hosted one answers.

    Raises `BadGateway` (502) for a redirect, for a success whose body is not a JSON object, and,
    from within the stream, for one that stops early or carries something that is not JSON. An
    error whose body is not OpenAI's keeps its status and gets an OpenAI body.
    """

    forwards_here = True

    async def answer(self, request: ApiRequest) -> ApiResponse:
        response = await self._inner.answer(request)
        if isinstance(response.body, bytes):
            return _checked(request, response, response.body)
        checked = _CHECKED.get(request.path.rsplit("/", 1)[-1])
        if response.status != 200 or checked is None:
            return response
        return replace(response, body=checked(response.body))


def _checked(request: ApiRequest, response: ApiResponse, body: bytes) -> ApiResponse:
    if 300 <= response.status < 400:
        where = response.headers.get("location", "elsewhere")
        raise BadGateway(f"The upstream redirects to {where}; set OPENAI_BASE_URL to that address.")
    read = _object(body)
    if response.status >= 400:
        return response if _is_error(read) else _as_openai_error(response)
    if not request.path.startswith("/v1/") or request.method == "HEAD":
        return response
    if read is None and _promises_json(request, response):
        raise BadGateway("The upstream's answer is not a JSON object.")
    for end, (field, name) in _HAVE.items():
        if request.path.endswith(end) and not _answers(request, read, field):
            raise BadGateway(f"The upstream's answer is not the {name} that was asked for.")
    return response


_JSON = ("/completions", "/embeddings", "/responses")


def _promises_json(request: ApiRequest, response: ApiResponse) -> bool:
    """Files and audio come as other types; the paths of a language model never do."""
    kind = response.headers.get("content-type", "application/json")
    known = request.path.endswith(_JSON) or "/v1/models" in request.path
    return known or kind.startswith("application/json")


_HAVE = {
    "/chat/completions": ("choices", "chat completion"),
    "/responses": ("output", "response"),
}
"""By the end of a path: a field that its answers have, and what they are called."""


def _answers(request: ApiRequest, read: dict[str, Any] | None, field: str) -> bool:
    """A plain body where a stream was asked for would be an empty stream to the SDK."""
    if request.method != "POST" or read is None:
        return request.method != "POST"
    return field in read and request.json.get("stream") is not True


def _is_error(read: dict[str, Any] | None) -> bool:
    return read is not None and isinstance(read.get("error"), dict)


def _as_openai_error(response: ApiResponse) -> ApiResponse:
    """The status is the upstream's, the words are ours: its page means nothing to an SDK."""
    error = ApiError(
        f"The upstream failed with status {response.status} and said nothing that OpenAI's API "
        "would say; something between here and there may have answered in its place.",
        code="upstream_error",
    ).body()
    kept = {"retry-after", "x-request-id"}
    headers = {name: value for name, value in response.headers.items() if name in kept}
    return ApiResponse.from_json(error, response.status, headers)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(body)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


class _Checked:
    """Passes the bytes of a stream on, complete line by complete line, each checked before it goes
    out; half a line is held, because an error event could not follow it."""

    def __init__(self, body: ByteStream) -> None:
        self._body = body
        self._reader = EventReader()
        self._finished: dict[int, bool] = {}
        self._failed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = self._reader
        async for piece in self._body:
            held = reader.rest
            chunks = [self._seen(chunk) for chunk in reader.parse(piece)]
            if len(reader.rest) > _LONGEST_LINE:
                raise BadGateway("The upstream's stream has a line without an end.")
            if lines := (held + piece)[: len(held) + len(piece) - len(reader.rest)]:
                yield Events.of(lines, chunks)
        if not (self._whole() or self._failed):
            raise BadGateway("The upstream's stream ended before its answer was complete.")
        if reader.rest:
            yield reader.rest

    async def aclose(self) -> None:
        await self._body.aclose()

    def _whole(self) -> bool:
        return bool(self._finished) and all(self._finished.values()) and self._reader.done

    def _seen(self, chunk: dict[str, Any] | None) -> dict[str, Any]:
        if chunk is None:
            raise BadGateway("The upstream's stream carries an event that is not JSON.")
        self._failed = self._failed or "error" in chunk
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, dict):
                raise BadGateway("The upstream's stream carries a choice that is not an object.")
            ended = choice.get("finish_reason") is not None
            index = choice.get("index", 0)
            self._finished[index] = self._finished.get(index, False) or ended
        return chunk


class _CheckedResponse(_Checked):
    """The same for the events of a response: the last one says that it has ended."""

    _ended = False

    def _whole(self) -> bool:
        return self._ended

    def _seen(self, chunk: dict[str, Any] | None) -> dict[str, Any]:
        chunk = super()._seen(chunk)
        self._failed = self._failed or chunk.get("type") == "error"
        response = chunk.get("response")
        self._ended = isinstance(response, dict) and finish_reason(response) is not None
        return chunk


_CHECKED: dict[str, type[_Checked]] = {"completions": _Checked, "responses": _CheckedResponse}
"""By the end of a path: what its streams are held to."""
