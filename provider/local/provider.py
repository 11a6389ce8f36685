"""`LocalProvider`: OpenAI's paths onto the models of this process."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from provider.base import ApiRequest, ApiResponse, Sample
from provider.errors import (
    ApiError,
    ConfigurationError,
    MethodNotAllowed,
    NotFound,
    Unavailable,
)
from provider.local import adapters, chat, embeddings, figures, models, parts, texts
from provider.local.lazy import Lazy
from provider.local.names import Names
from provider.local.portable import Portability

if TYPE_CHECKING:
    from provider.local.embedding import Embedding
    from provider.local.language import Language
    from provider.settings import Settings

log = logging.getLogger(__name__)

MODEL = "/v1/models/"
T = TypeVar("T")

Route = Callable[["LocalProvider", ApiRequest], Awaitable[ApiResponse]]


class LocalProvider:
    """Answers in this process. Models are loaded at their first use, or by `warm_up`.

    `language` and `embedding` replace what the settings say (for a model that is already loaded).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        language: Language | None = None,
        embedding: Embedding | None = None,
    ) -> None:
        self._settings = settings
        self._held = parts.Held(settings, language, embedding)
        self._portability = Portability(settings.portability)
        self._created = int(time.time())

    @property
    def language(self) -> Lazy[Language]:
        return self._held.language

    @property
    def embedding(self) -> Lazy[Embedding]:
        return self._held.embedding

    async def answer(self, request: ApiRequest) -> ApiResponse:
        """The answer, under an id of its own (`x-request-id`) where the request has none.

        Raises `NotFound` and `MethodNotAllowed` for paths and methods that are not served.
        """
        if request.request_id is not None:
            return await self._route(request)
        named = {"x-request-id": f"req_{uuid.uuid4().hex}"}
        try:
            response = await self._route(request)
        except ApiError as error:
            error.headers.update(named)
            raise
        return replace(response, headers={**response.headers, **named})

    async def _route(self, request: ApiRequest) -> ApiResponse:
        path = MODEL if request.path.startswith(MODEL) else request.path
        methods = _ROUTES.get(path)
        if methods is None:
            raise NotFound(f"Invalid URL ({request.method} {request.path}){_instead(path)}")
        if request.method not in methods:
            raise MethodNotAllowed(
                f"Not allowed to {request.method} on {request.path} (HINT: Perhaps you meant to "
                "use a different HTTP method?)",
                headers={"allow": ", ".join(methods)},
            )
        return await methods[request.method](self, request)

    async def aclose(self) -> None:
        """Lets the models go; the last holder in this process unloads them."""
        self._held.let_go()

    def warm_up(self) -> None:
        """Loads what the settings have answered locally, and has the engine make a first token;
        blocks until that is done.

        Raises `ConfigurationError` for a model that cannot be loaded.
        """
        for part in self._held.wanted():
            part.now()
        if self.language.built is not None:
            self.language.built.warm_up()
        self._names().warn()

    def health(self) -> Mapping[str, Any]:
        """`alive`, `ready`, and the engine's figures once it is there."""
        language, embedding = self.language.built, self.embedding.built
        engine = language.engine if language is not None else None
        return {
            "alive": embedding is None or embedding.queue.alive,
            "ready": all(part.built is not None for part in self._held.wanted())
            and (engine is None or engine.alive),
            "engine": dict(engine.stats()) if engine is not None else {},
        }

    def describe(self) -> list[str]:
        """What is loaded, in plain lines."""
        language, embedding = self.language.built, self.embedding.built
        lines = language.card.lines() if language is not None else []
        return [*lines, *(embedding.lines() if embedding is not None else [])]

    def samples(self) -> Iterable[Sample]:
        """The figures of the engine and the embedding queue, once they are there."""
        language, embedding = self.language.built, self.embedding.built
        if language is not None:
            yield from figures.of_engine(language.engine.stats(), language.name)
        if embedding is not None:
            yield from figures.of_embeddings(embedding.queue.stats(), embedding.name)

    async def _chat(self, request: ApiRequest) -> ApiResponse:
        return await chat.answer(request, await _loaded(self.language, request), self._portability)

    async def _text(self, request: ApiRequest) -> ApiResponse:
        return await texts.answer(request, await _loaded(self.language, request), self._portability)

    async def _embed(self, request: ApiRequest) -> ApiResponse:
        return await embeddings.answer(
            request, await _loaded(self.embedding, request), self._names()
        )

    async def _models(self, request: ApiRequest) -> ApiResponse:
        return ApiResponse.from_json({"object": "list", "data": await self._listed(request)})

    async def _model(self, request: ApiRequest) -> ApiResponse:
        listed = await self._listed(request)
        return ApiResponse.from_json(models.entry(request.path.removeprefix(MODEL), listed))

    async def _load_adapter(self, request: ApiRequest) -> ApiResponse:
        return await adapters.load(request, await _loaded(self.language, request))

    async def _unload_adapter(self, request: ApiRequest) -> ApiResponse:
        return await adapters.unload(request, await _loaded(self.language, request))

    async def _listed(self, request: ApiRequest) -> list[dict[str, Any]]:
        for part in self._held.wanted():
            await _loaded(part, request)
        facts: dict[str, dict[str, Any]] = {}
        language, embedding = self.language.built, self.embedding.built
        if language is not None:
            facts[language.name] = models.card_facts(language.card)
            facts |= {name: {"parent": language.name} for name in language.adapter_names()}
        if embedding is not None:
            facts[embedding.name] = await asyncio.to_thread(embedding.facts)
        return models.entries(self._names(), facts, self._created)

    def _names(self) -> Names:
        """The names as far as they are known; unloaded models go by their settings."""
        language, embedding = self.language.built, self.embedding.built
        return Names(
            language.name if language is not None else parts.language_name(self._settings),
            embedding.name if embedding is not None else parts.embedding_name(self._settings),
            language.adapter_names() if language is not None else frozenset(),
            self._settings.model_aliases,
        )


async def _loaded(part: Lazy[T], request: ApiRequest) -> T:
    """The part, loaded now if nobody did before.

    Raises `Unavailable` where it cannot be. The reason goes to the log, and to a caller in this
    process; a client behind the server is not told of folders and settings.
    """
    try:
        return await part.get()
    except ConfigurationError as error:
        log.error("a local model cannot be loaded: %s", error)
        reason = "the server's log has the reason." if request.context else str(error)
        raise Unavailable(
            f"The local model cannot be loaded: {reason}", headers={"x-should-retry": "false"}
        ) from error


_ROUTES: dict[str, dict[str, Route]] = {
    "/v1/chat/completions": {"POST": LocalProvider._chat},
    "/v1/completions": {"POST": LocalProvider._text},
    "/v1/embeddings": {"POST": LocalProvider._embed},
    "/v1/models": {"GET": LocalProvider._models},
    MODEL: {"GET": LocalProvider._model},
    "/v1/load_lora_adapter": {"POST": LocalProvider._load_adapter},
    "/v1/unload_lora_adapter": {"POST": LocalProvider._unload_adapter},
}

_OTHER_API = ("/v1/conversations", "/v1/assistants", "/v1/threads")


def _instead(path: str) -> str:
    """The way out for a client that speaks another of OpenAI's interfaces to a model."""
    if not path.startswith(_OTHER_API):
        return ""
    return (
        ". The local provider answers /v1/responses and /v1/chat/completions; tell the client to "
        "use one of these."
    )
