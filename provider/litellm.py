"""LiteLLM both ways: every hosted model it knows as a provider, and us as one of its providers.

`LLM_PROVIDER=litellm` with `LLM_MODEL=gemini/gemini-2.5-flash` sends each request through LiteLLM.
`register()` lets an app that uses LiteLLM call `litellm.completion(model="sllm/NAME", ...)`.

Importing LiteLLM takes seconds, so it happens at the first request; its price map is the one in
the package, because its import would otherwise fetch one over the network.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from provider.base import ApiRequest, ApiResponse
from provider.errors import (
    ApiError,
    BadGateway,
    ContextTooLong,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    RateLimited,
    ServerError,
    Unauthenticated,
    Unavailable,
    UpstreamTimeout,
)
from provider.litellm_shapes import litellm_chunk, litellm_completion, litellm_embeddings
from provider.openai import NOT_RETURNED, kept
from provider.protocol.parameters import CHAT, EMBEDDINGS
from provider.protocol.shapes import Object

if TYPE_CHECKING:
    from provider.settings import Settings

ERRORS: tuple[tuple[str, type[ApiError]], ...] = (
    ("ContextWindowExceededError", ContextTooLong),
    ("Timeout", UpstreamTimeout),
    ("APIConnectionError", BadGateway),
    ("APIResponseValidationError", BadGateway),
    ("BadGatewayError", BadGateway),
    ("AuthenticationError", Unauthenticated),
    ("PermissionDeniedError", Forbidden),
    ("NotFoundError", NotFound),
    ("RateLimitError", RateLimited),
    ("BudgetExceededError", RateLimited),
    ("BadRequestError", InvalidRequest),
    ("UnprocessableEntityError", InvalidRequest),
    ("ServiceUnavailableError", Unavailable),
    ("InternalServerError", ServerError),
    ("APIError", ServerError),
    ("OpenAIError", ServerError),
)
"""LiteLLM's exceptions (`litellm.exceptions`) in OpenAI's vocabulary; the first fit counts."""


def _litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    return litellm


class LiteLLMProvider:
    """Answers chat completions and embeddings through LiteLLM.

    Raises the errors of `ERRORS`. A request is sent under `LLM_MODEL` where that is set, because
    an app's `gpt-4o-mini` is not the name that LiteLLM needs.
    """

    def __init__(self, settings: Settings) -> None:
        self._model = settings.llm_model
        self._timeout = settings.openai_timeout

    async def answer(self, request: ApiRequest) -> ApiResponse:
        known = _PATHS.get((request.method, request.path))
        if request.method == "GET" and request.path.startswith("/v1/models/"):
            known = LiteLLMProvider._one_model
        if known is None:
            raise NotFound(f"Invalid URL ({request.method} {request.path})")
        answer: ApiResponse = await known(self, request)
        return answer

    async def aclose(self) -> None:
        """LiteLLM keeps its own connection pools for the life of the process."""

    async def _chat(self, request: ApiRequest) -> ApiResponse:
        litellm = await asyncio.to_thread(_litellm)
        body = {**_only(request.json, CHAT), "model": self._model or request.json.get("model")}
        with_errors = _Translated(litellm)
        answer = await with_errors(litellm.acompletion(**body, **self._terms()))
        if body.get("stream"):
            headers = {**_headers(answer), "content-type": "text/event-stream; charset=utf-8"}
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return ApiResponse(200, headers, _Events(answer, with_errors, usage))
        return ApiResponse.from_json(litellm_completion(_plain(answer)), headers=_headers(answer))

    async def _embeddings(self, request: ApiRequest) -> ApiResponse:
        litellm = await asyncio.to_thread(_litellm)
        body = _only(request.json, EMBEDDINGS)
        answer = await _Translated(litellm)(litellm.aembedding(**body, **self._terms()))
        return ApiResponse.from_json(litellm_embeddings(_plain(answer)), headers=_headers(answer))

    async def _models(self, request: ApiRequest) -> ApiResponse:
        return ApiResponse.from_json({"object": "list", "data": self._listed()})

    async def _one_model(self, request: ApiRequest) -> ApiResponse:
        asked = unquote(request.path.removeprefix("/v1/models/"))
        for model in self._listed():
            if model["id"] == asked:
                return ApiResponse.from_json(model)
        raise ModelNotFound.of(asked)

    def _listed(self) -> list[dict[str, Any]]:
        listed = [self._model] if self._model else []
        return [{"id": i, "object": "model", "created": 0, "owned_by": "litellm"} for i in listed]

    def _terms(self) -> dict[str, Any]:
        """Tried once: whoever holds this provider decides whether to try again."""
        return {"timeout": self._timeout, "max_retries": 0}


_PATHS: dict[tuple[str, str], Callable[[LiteLLMProvider, ApiRequest], Any]] = {
    ("POST", "/v1/chat/completions"): LiteLLMProvider._chat,
    ("POST", "/v1/embeddings"): LiteLLMProvider._embeddings,
    ("GET", "/v1/models"): LiteLLMProvider._models,
}


class _Events:
    """LiteLLM's chunks as server-sent events; `usage` is whether the client asked for it."""

    def __init__(self, chunks: Any, translated: _Translated, usage: bool) -> None:
        self._chunks, self._translated, self._usage = chunks, translated, usage

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._chunks)
        while True:
            chunk = await self._translated(anext(chunks, None))
            if chunk is None:
                break
            normal = litellm_chunk(_plain(chunk), self._usage)
            yield b"data: " + json.dumps(normal, ensure_ascii=False).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()


class _Translated:
    """Awaits LiteLLM's work and raises its exceptions in our vocabulary."""

    def __init__(self, litellm: Any) -> None:
        self._known = [
            (getattr(litellm.exceptions, name), error)
            for name, error in ERRORS
            if hasattr(litellm.exceptions, name)
        ]

    async def __call__(self, work: Any) -> Any:
        try:
            return await work
        except tuple(kind for kind, _ in self._known) as failure:
            for kind, error in self._known:
                if isinstance(failure, kind):
                    raise _told(failure, error) from failure
            raise


def _told(failure: Any, kind: type[ApiError]) -> ApiError:
    """What the hosted side said in OpenAI's words where it did, else LiteLLM's sentence."""
    before = failure.__context__
    said = _facts(failure) or _facts(before)
    headers = getattr(failure, "litellm_response_headers", None) or getattr(before, "headers", None)
    kept = {k: v for k, v in dict(headers or {}).items() if k.lower() in _ERROR_HEADERS}
    text = said.get("message") or str(failure)
    if "LLM Provider NOT provided" in text:
        return ModelNotFound(text.removeprefix("litellm.BadRequestError: "), param="model")
    told = kind(text, param=said.get("param"), code=said.get("code"), headers=kept)
    if isinstance(said.get("type"), str):
        vars(told)["type"] = said["type"]
    return told


_ERROR_HEADERS = frozenset({"retry-after", "retry-after-ms", "x-request-id"})


def _facts(failure: Any) -> dict[str, Any]:
    body = getattr(failure, "body", None)
    body = body.get("error", body) if isinstance(body, dict) else {}
    return {k: v for k, v in body.items() if isinstance(v, str)} if isinstance(body, dict) else {}


def _only(body: dict[str, Any], table: Object) -> dict[str, Any]:
    """The body, if it has OpenAI's parameters alone.

    LiteLLM takes its own arguments by the same names (`api_base`, `api_key`, `fallbacks`, ...): a
    client that could send those would choose where the key goes.
    """
    for name in body:
        if name not in table.fields:
            raise InvalidRequest(
                f"Unrecognized request argument supplied: {name}",
                param=name,
                code="unknown_parameter",
            )
    return body


def _headers(answer: Any) -> dict[str, str]:
    """The hosted side's own headers, as far as they are about the request and not the hop."""
    given = getattr(answer, "_response_headers", None)
    return kept(given, NOT_RETURNED | {"content-type"}) if given else {}


def _plain(answer: Any) -> dict[str, Any]:
    plain: dict[str, Any] = answer.model_dump(exclude_unset=True)
    return plain


def build(settings: Settings) -> LiteLLMProvider:
    return LiteLLMProvider(settings)


def register(settings: Settings | None = None, *, name: str = "sllm") -> None:
    """Make `litellm.completion(model="sllm/MODEL", ...)` be answered by the configured provider.

    Sync, async, streamed, and embeddings. Calling it again replaces the earlier registration.
    """
    from provider.litellm_handler import handler

    litellm = _litellm()
    others = [entry for entry in litellm.custom_provider_map if entry["provider"] != name]
    entry = {"provider": name, "custom_handler": handler(litellm, settings)}
    litellm.custom_provider_map = [*others, entry]
    from litellm.utils import custom_llm_setup

    custom_llm_setup()
