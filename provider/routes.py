"""Sends each path to the side that answers it: embeddings to one provider, the rest to another."""

from __future__ import annotations

import json
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
from provider.errors import ModelNotFound
from provider.here import answers_here

EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"


class Routes:
    """A provider of two sides; the model list is the union of theirs."""

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
        listed = [await side.answer(request) for side in (self._llm, self._embedding)]
        for response in listed:
            if response.status != 200:
                return response
        models: dict[str, Any] = {}
        for response in listed:
            for model in json.loads(await response.read())["data"]:
                models.setdefault(model["id"], model)
        return ApiResponse.from_json({"object": "list", "data": list(models.values())})

    async def _model(self, request: ApiRequest) -> ApiResponse:
        try:
            response = await self._llm.answer(request)
        except ModelNotFound:
            return await self._embedding.answer(request)
        return response if response.status != 404 else await self._embedding.answer(request)
