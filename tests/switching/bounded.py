"""A server as vLLM is without a tool parser: text, and text under a JSON Schema; no tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema

from provider.base import ApiRequest, ApiResponse
from provider.errors import BadGateway
from tests.switching.parts import Pieces

_HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "exaone"}
NO_TOOLS = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'


class Bounded:
    """Says `free` where nothing binds it, and the next of `held` where a schema does, which that
    must fulfil unless `lax`. A str is an answer, a tuple the answers of n; letters come one by one.

    `owner` is who made it; vLLM alone counts tokens while it streams. `breaks` is after how many
    events the stream of a held answer breaks off; `ignores_n` is to answer once whatever is asked.
    """

    def __init__(
        self,
        free: str | tuple[str, ...] = "",
        held: Sequence[str | tuple[str, ...]] = (),
        *,
        owner: str = "vllm",
        lax: bool = False,
        reason: str = "stop",
        breaks: int | None = None,
        refusal: ApiResponse | None = None,
        ignores_n: bool = False,
    ) -> None:
        self.owner, self.lax, self.reason, self.breaks = owner, lax, reason, breaks
        self.requests: list[dict[str, Any]] = []
        self.streams: list[Pieces] = []
        self._free, self._held, self._refusal = free, list(held), refusal
        self._ignores_n = ignores_n

    async def answer(self, request: ApiRequest) -> ApiResponse:
        if request.path == "/v1/models":
            listed = {"object": "list", "data": [{"id": "exaone", "owned_by": self.owner}]}
            return ApiResponse.from_json(listed)
        body = request.json
        self.requests.append(body)
        if body.get("tools") or body.get("functions"):
            return _error(NO_TOOLS)
        form = body.get("response_format") or {"type": "text"}
        said = self._free if form["type"] == "text" else self._bound(_schema(form))
        if form["type"] != "text" and self._refusal is not None:
            return self._refusal
        texts = (said,) if isinstance(said, str) else said
        assert self._ignores_n or len(texts) == (body.get("n") or 1)
        stream = Pieces(self._events(texts, body, broken=form["type"] != "text"))
        self.streams.append(stream)
        return ApiResponse(200, {"content-type": "text/event-stream"}, stream)

    async def aclose(self) -> None: ...

    def _bound(self, schema: Any) -> str | tuple[str, ...]:
        said = self._held.pop(0)
        if not self.lax and self.reason == "stop":
            for text in (said,) if isinstance(said, str) else said:
                jsonschema.Draft202012Validator(schema).validate(json.loads(text))
        return said

    def _events(
        self, texts: Sequence[str], body: dict[str, Any], broken: bool
    ) -> list[bytes | Exception]:
        events: list[bytes | Exception] = [b": ping\n\n"]
        for index, text in enumerate(texts):
            events.append(self._event(index, {"role": "assistant", "content": ""}, 0))
            for count, letter in enumerate(text, 1):
                tokens = _logprobs(letter) if body.get("logprobs") else None
                events.append(self._event(index, {"content": letter}, count, logprobs=tokens))
        for index, text in enumerate(texts):
            reason = {"finish_reason": self.reason, "stop_reason": None}
            events.append(self._event(index, {"content": ""}, len(text), **reason))
        if broken and self.breaks is not None:
            return [*events[: self.breaks], BadGateway("The server broke the connection.")]
        usage = _usage(sum(map(len, texts)))
        return [*events, _sent({**_HEAD, "choices": [], "usage": usage}), b"data: [DONE]\n\n"]

    def _event(self, index: int, delta: dict[str, Any], count: int, **more: Any) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": None, "token_ids": None, **more}
        counted = {"usage": _usage(count)} if self.owner == "vllm" else {}
        return _sent({**_HEAD, "choices": [choice], **counted})


def _schema(form: dict[str, Any]) -> Any:
    return form["schema"] if form["type"] == "json_object" else form["json_schema"]["schema"]


def _sent(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def _usage(completion: int) -> dict[str, Any]:
    return {"prompt_tokens": 10, "completion_tokens": completion, "total_tokens": 10 + completion}


def _logprobs(letter: str) -> dict[str, Any]:
    said = {"token": letter, "logprob": -0.5, "bytes": list(letter.encode())}
    return {"content": [{**said, "top_logprobs": [said]}]}


def _error(message: str) -> ApiResponse:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
    return ApiResponse.from_json({"error": error}, 400)
