"""Sends each path to the side that answers it: embeddings to one provider, the rest to another."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from provider.base import (
    ApiRequest,
    ApiResponse,
    Provider,
    Sample,
    describe_of,
    health_of,
    samples_of,
    warm_up,
)
from provider.errors import ApiError, ModelNotFound
from provider.here import answers_here

log = logging.getLogger(__name__)

EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"


class Routes:
    """A provider of two sides; the model list is the union of theirs, as far as they tell."""

    def __init__(self, llm: Provider, embedding: Provider) -> None:
        self._llm = llm
        self._embedding = embedding

    async def answer(self, request: ApiRequest) -> ApiResponse:
        if request.path == EMBEDDINGS:
            return await self._embedding.answer(request)
        if request.method == "GET" and request.path == MODELS:
            return await self._models(request)
        if request.method == "GET" and request.path.startswith(f"{MODELS}/"):
            return await self._model(request)
        return await self._llm.answer(request)

    @property
    def here(self) -> bool:
        return answers_here(self._llm) or answers_here(self._embedding)

    async def aclose(self) -> None:
        await self._llm.aclose()
        await self._embedding.aclose()

    def health(self) -> Mapping[str, Any]:
        llm, embedding = health_of(self._llm), health_of(self._embedding)
        both = {name: llm[name] and embedding[name] for name in ("alive", "ready")}
        return {**embedding, **llm, **both}

    def describe(self) -> list[str]:
        llm, embedding = describe_of(self._llm), describe_of(self._embedding)
        return llm if llm == embedding else [*llm, *embedding]

    def warm_up(self) -> None:
        warm_up(self._llm)
        warm_up(self._embedding)

    def samples(self) -> Iterable[Sample]:
        yield from samples_of(self._llm)
        yield from samples_of(self._embedding)

    async def _models(self, request: ApiRequest) -> ApiResponse:
        """What the sides list, together. A side that cannot list is left out and named in
        `x-sllm-not-listed`, unless that is what the app has to hear: neither can, or the LLM's
        refuses the request itself (a wrong key)."""
        llm, embedding = await asyncio.gather(
            _tried(self._llm, request), _tried(self._embedding, request)
        )
        listed = {"llm": await _listed(llm), "embedding": await _listed(embedding)}
        if listed["llm"] is None and (listed["embedding"] is None or 400 <= llm.status < 500):
            return _told(llm)
        models: dict[str, Any] = {}
        for model in (model for found in listed.values() for model in found or ()):
            models.setdefault(model["id"], model)
        missing = [side for side, found in listed.items() if found is None]
        headers = {"x-sllm-not-listed": ", ".join(missing)} if missing else {}
        body = {"object": "list", "data": list(models.values())}
        return ApiResponse.from_json(body, headers=headers)

    async def _model(self, request: ApiRequest) -> ApiResponse:
        """A model of either side; a side that cannot be asked hides none of the other's."""
        llm = await _tried(self._llm, request)
        if isinstance(llm, ModelNotFound) or llm.status == 404:
            return await self._embedding.answer(request)
        if llm.status >= 500:
            embedding = await _tried(self._embedding, request)
            return embedding if isinstance(embedding, ApiResponse) else _told(llm)
        return _told(llm)


async def _tried(side: Provider, request: ApiRequest) -> ApiResponse | ApiError:
    try:
        return await side.answer(request)
    except ApiError as error:
        return error


def _told(answer: ApiResponse | ApiError) -> ApiResponse:
    if isinstance(answer, ApiError):
        raise answer
    return answer


async def _listed(answer: ApiResponse | ApiError) -> list[dict[str, Any]] | None:
    """The models of a list; None where there is none, which the log says."""
    if isinstance(answer, ApiResponse) and answer.status == 200:
        found = json.loads(await answer.read()).get("data")
        if isinstance(found, list):
            return [model for model in found if isinstance(model, dict) and "id" in model]
    why = answer.message if isinstance(answer, ApiError) else f"status {answer.status}"
    log.warning("models are not listed: %s", why)
    return None
