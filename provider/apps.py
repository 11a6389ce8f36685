"""Factories for apps that talk to "a language model" and "an embedder" rather than to an SDK.

    llm = get_llm()
    analysis = llm.query(messages, response_model=FloorPlanAnalysis)
    vectors = get_embedder().embed_texts(["방 세 개", "주방"])

Both stand on the official SDK's clients, so errors are the SDK's typed ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from provider.client import AsyncOpenAI, OpenAI
from provider.errors import ServerError
from provider.settings import Settings

Model = TypeVar("Model", bound=BaseModel)
Messages = Iterable[ChatCompletionMessageParam]

_INPUTS_PER_REQUEST = 512
"""OpenAI takes at most 2,048 inputs and 300,000 tokens in one request."""


class LLM:
    """The configured language model.

    `query` returns the answer's text, or an instance of `response_model` that its JSON schema was
    enforced for. Further keyword arguments are those of `chat.completions.create`.
    """

    def __init__(self, settings: Settings | None = None, model: str | None = None) -> None:
        self.settings = settings or Settings()
        self.model = model or self.settings.openai_model
        self._sync = OpenAI(settings=self.settings)
        self._async = AsyncOpenAI(settings=self.settings)

    @overload
    def query(self, messages: Messages, response_model: None = None, **options: Any) -> str: ...
    @overload
    def query(self, messages: Messages, response_model: type[Model], **options: Any) -> Model: ...
    def query(
        self, messages: Messages, response_model: type[Model] | None = None, **options: Any
    ) -> str | Model:
        """The answer to `messages`.

        Raises the SDK's typed errors, `openai.LengthFinishReasonError` for JSON that was cut by
        `max_tokens`, and `ServerError` for a refusal.
        """
        if response_model is None:
            plain = self._sync.chat.completions.create(
                model=self.model, messages=messages, **options
            )
            return plain.choices[0].message.content or ""
        parsed = self._sync.chat.completions.parse(
            model=self.model, messages=messages, response_format=response_model, **options
        )
        return _parsed(parsed.choices[0].message, response_model)

    @overload
    async def aquery(
        self, messages: Messages, response_model: None = None, **options: Any
    ) -> str: ...
    @overload
    async def aquery(
        self, messages: Messages, response_model: type[Model], **options: Any
    ) -> Model: ...
    async def aquery(
        self, messages: Messages, response_model: type[Model] | None = None, **options: Any
    ) -> str | Model:
        """`query`, awaited."""
        if response_model is None:
            plain = await self._async.chat.completions.create(
                model=self.model, messages=messages, **options
            )
            return plain.choices[0].message.content or ""
        parsed = await self._async.chat.completions.parse(
            model=self.model, messages=messages, response_format=response_model, **options
        )
        return _parsed(parsed.choices[0].message, response_model)

    def stream(self, messages: Messages, **options: Any) -> Iterator[str]:
        """The answer's text, piece by piece."""
        chunks = self._sync.chat.completions.create(
            model=self.model, messages=messages, stream=True, **options
        )
        with chunks:
            for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    async def astream(self, messages: Messages, **options: Any) -> AsyncIterator[str]:
        """`stream`, awaited."""
        chunks = await self._async.chat.completions.create(
            model=self.model, messages=messages, stream=True, **options
        )
        async with chunks:
            async for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content


def _parsed(message: Any, response_model: type[Model]) -> Model:
    if not isinstance(message.parsed, response_model):
        raise ServerError(f"The model refused: {message.refusal}")
    return message.parsed


class Embedder:
    """The configured embedding space: `dimensions` floats a text."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._sync = OpenAI(settings=self.settings)
        self._async = AsyncOpenAI(settings=self.settings)

    def embed_text(self, text: str) -> list[float]:
        return self.embed_texts([text])[0]

    async def aembed_text(self, text: str) -> list[float]:
        return (await self.aembed_texts([text]))[0]

    def embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, in their order."""
        return [
            item.embedding
            for batch in _batches(texts)
            for item in self._sync.embeddings.create(**self._options(batch)).data
        ]

    async def aembed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        """`embed_texts`, awaited."""
        vectors: list[list[float]] = []
        for batch in _batches(texts):
            answer = await self._async.embeddings.create(**self._options(batch))
            vectors += [item.embedding for item in answer.data]
        return vectors

    def _options(self, batch: Sequence[str]) -> dict[str, Any]:
        options: dict[str, Any] = {
            "model": self.settings.openai_embedding_model,
            "input": list(batch),
        }
        if self.settings.embedding_provider != "local":
            options["dimensions"] = self.settings.openai_embedding_dimensions
        return options


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    if isinstance(texts, str):
        raise TypeError("embed_texts takes a list of texts; embed_text takes one")
    for start in range(0, len(texts), _INPUTS_PER_REQUEST):
        yield texts[start : start + _INPUTS_PER_REQUEST]


def get_llm(settings: Settings | None = None, *, provider: str | None = None) -> LLM:
    """The language model of `LLM_PROVIDER`, or of the provider named here."""
    return LLM(_chosen(settings, "llm_provider", provider))


def get_embedder(settings: Settings | None = None, *, provider: str | None = None) -> Embedder:
    """The embedder of `EMBEDDING_PROVIDER`, or of the provider named here."""
    return Embedder(_chosen(settings, "embedding_provider", provider))


def _chosen(settings: Settings | None, field: str, provider: str | None) -> Settings:
    settings = settings or Settings()
    if provider is None:
        return settings
    # Built anew, not copied, so that the name is validated.
    return type(settings)(**{**settings.model_dump(), field: provider})
