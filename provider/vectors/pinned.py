"""The embedder of a space: one provider, whatever is switched at run time.

A client that follows `sllm switch` would, after a switch, fill one space with another's vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from provider.client import AsyncOpenAI, OpenAI
from provider.factory import make
from provider.settings import Settings

_INPUTS_PER_REQUEST = 512
"""OpenAI takes at most 2,048 inputs and 300,000 tokens in one request."""


class PinnedEmbedder:
    """Embeds with the provider of this name and no other.

    `query_prefix` is what the model wants before a query. Raises the SDK's typed errors.
    """

    def __init__(self, settings: Settings, name: str, query_prefix: str = "") -> None:
        provider = make(name, settings)
        self.query_prefix = query_prefix
        self._sync = OpenAI(settings=settings, provider=provider)
        self._async = AsyncOpenAI(settings=settings, provider=provider)
        self._options = _options(settings, name)

    def embed_texts(self, texts: list[str], /) -> list[list[float]]:
        """One vector a text, in their order."""
        return [
            item.embedding
            for batch in _batches(texts)
            for item in self._sync.embeddings.create(input=batch, **self._options).data
        ]

    async def aembed_texts(self, texts: list[str], /) -> list[list[float]]:
        """`embed_texts`, awaited."""
        vectors: list[list[float]] = []
        for batch in _batches(texts):
            answer = await self._async.embeddings.create(input=batch, **self._options)
            vectors += [item.embedding for item in answer.data]
        return vectors


def _options(settings: Settings, name: str) -> dict[str, Any]:
    if name == "local":
        from provider.local.parts import embedding_name

        return {"model": embedding_name(settings)}
    dimensions = settings.openai_embedding_dimensions
    return {"model": settings.openai_embedding_model, "dimensions": dimensions}


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), _INPUTS_PER_REQUEST):
        yield list(texts[start : start + _INPUTS_PER_REQUEST])
