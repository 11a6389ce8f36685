"""Small real providers that tests put around and under the ones they examine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from provider.base import ApiRequest, ApiResponse, ByteStream, Holder
from provider.errors import ApiError
from provider.here import HERE, driven

CHAT = "/v1/chat/completions"


def chat(content: str = "안녕", *, model: str = "gpt-4o-mini", **more: object) -> ApiRequest:
    body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
    return ApiRequest("POST", CHAT, {"content-type": "application/json"}, json.dumps(body).encode())


def chunk(content: str | None = None, finish: str | None = None, **more: object) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "named-model",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


WHOLE_STREAM = (chunk("안"), chunk("녕"), chunk(finish="stop"), b"data: [DONE]\n\n")


class Pieces:
    """A stream of given pieces; `pause` seconds lie before each."""

    def __init__(self, pieces: Sequence[bytes | Exception], pause: float = 0.0) -> None:
        self._pieces = pieces
        self._pause = pause
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(self._pause)
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Named:
    """Answers with its own name; raises `errors` in turn before that."""

    def __init__(
        self,
        name: str,
        errors: Sequence[ApiError | ApiResponse] = (),
        stream: Callable[[], Pieces] | None = None,
        pause: float = 0.0,
    ) -> None:
        self.name = name
        self.errors = list(errors)
        self.requests: list[ApiRequest] = []
        self.closed = False
        self._pause = pause
        self._stream = stream or self._own_stream

    async def answer(self, request: ApiRequest) -> ApiResponse:
        self.requests.append(request)
        if self.errors:
            error = self.errors.pop(0)
            if isinstance(error, ApiResponse):
                return error
            raise error
        await asyncio.sleep(self._pause)
        if request.json.get("stream"):
            return ApiResponse(200, {"content-type": "text/event-stream"}, self._stream())
        return ApiResponse.from_json(completion(self.name))

    async def aclose(self) -> None:
        self.closed = True

    def _own_stream(self) -> Pieces:
        return Pieces(
            [
                *(chunk(self.name) for _ in range(5)),
                chunk(finish="stop"),
                b"data: [DONE]\n\n",
            ],
            self._pause,
        )


def completion(content: str, finish: str = "stop") -> dict[str, object]:
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "named-model",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


async def content_of(response: ApiResponse) -> str:
    """The text of a whole answer or of a stream."""
    body = await response.read()
    if not response.streamed:
        return str(json.loads(body)["choices"][0]["message"]["content"])
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


class OnTheCallingThread(Holder):
    """Asks a provider as a synchronous client does: on a thread without an event loop."""

    async def answer(self, request: ApiRequest) -> ApiResponse:
        asked = replace(request, context={HERE: None})
        response = await asyncio.to_thread(lambda: driven(self._inner.answer(asked)))
        if isinstance(response.body, bytes):
            return response
        return replace(response, body=_OnTheCallingThread(response.body))


class _OnTheCallingThread:
    def __init__(self, body: ByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._body)
        while (piece := await asyncio.to_thread(_next, pieces)) is not None:
            yield piece

    async def aclose(self) -> None:
        await asyncio.to_thread(lambda: driven(self._body.aclose()))


def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    async def following() -> bytes | None:
        return await anext(pieces, None)

    return driven(following())
