"""LiteLLM both ways: every hosted model it knows as a provider, and us as one of its providers.

`LLM_PROVIDER=litellm` with `LLM_MODEL=gemini/gemini-2.5-flash` sends each request through LiteLLM.
`register()` lets an app that uses LiteLLM call `litellm.completion(model="sllm/NAME", ...)`.

Importing LiteLLM takes seconds, so it happens at the first request; its price map is the one in
the package, because its import would otherwise fetch one over the network.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from provider.base import ApiRequest, ApiResponse
from provider.errors import (
    ApiError,
    BadGateway,
    ContextTooLong,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerError,
    Unauthenticated,
    Unavailable,
    UpstreamTimeout,
)

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
        if known is None:
            raise NotFound(f"Invalid URL ({request.method} {request.path})")
        answer: ApiResponse = await known(self, request)
        return answer

    async def aclose(self) -> None:
        """LiteLLM keeps its own connection pools for the life of the process."""

    async def _chat(self, request: ApiRequest) -> ApiResponse:
        litellm = await asyncio.to_thread(_litellm)
        body = {**request.json, "model": self._model or request.json.get("model")}
        with_errors = _Translated(litellm)
        answer = await with_errors(litellm.acompletion(**body, timeout=self._timeout))
        if body.get("stream"):
            headers = {"content-type": "text/event-stream; charset=utf-8"}
            return ApiResponse(200, headers, _Events(answer, with_errors))
        return ApiResponse.from_json(_plain(answer))

    async def _embeddings(self, request: ApiRequest) -> ApiResponse:
        litellm = await asyncio.to_thread(_litellm)
        body = request.json
        answer = await _Translated(litellm)(litellm.aembedding(**body, timeout=self._timeout))
        return ApiResponse.from_json(_plain(answer))

    async def _models(self, request: ApiRequest) -> ApiResponse:
        listed = [self._model] if self._model else []
        data = [{"id": i, "object": "model", "created": 0, "owned_by": "litellm"} for i in listed]
        return ApiResponse.from_json({"object": "list", "data": data})


_PATHS: dict[tuple[str, str], Callable[[LiteLLMProvider, ApiRequest], Any]] = {
    ("POST", "/v1/chat/completions"): LiteLLMProvider._chat,
    ("POST", "/v1/embeddings"): LiteLLMProvider._embeddings,
    ("GET", "/v1/models"): LiteLLMProvider._models,
}


class _Events:
    """LiteLLM's chunks as server-sent events."""

    def __init__(self, chunks: Any, translated: _Translated) -> None:
        self._chunks, self._translated = chunks, translated

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._chunks)
        while True:
            chunk = await self._translated(anext(chunks, None))
            if chunk is None:
                break
            yield b"data: " + chunk.model_dump_json(exclude_unset=True).encode() + b"\n\n"
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
                    raise error(str(failure)) from failure
            raise


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
