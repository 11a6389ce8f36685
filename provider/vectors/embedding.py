"""Embedders as this room sees them: texts in, vectors of one width out, checked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pgvector import HalfVector, Vector

from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors.spaces import PROBE, PROBE_COSINE, Element, Space

Stored = Vector | HalfVector
Verdict = Literal["poison", "transient", "fatal"]


@runtime_checkable
class Embedder(Protocol):
    """Anything that embeds: `provider.get_embedder()`, an engine, a test's own."""

    def embed_texts(self, texts: list[str], /) -> list[list[float]]: ...


@runtime_checkable
class AsyncEmbedder(Embedder, Protocol):
    """An embedder that can be awaited; others run in a thread."""

    async def aembed_texts(self, texts: list[str], /) -> list[list[float]]: ...


MakeEmbedder = Callable[[str], Embedder]
"""Provider name to its embedder."""


class UnusableVector(ValueError):
    """An embedder's answer that must not be stored."""


def from_settings(settings: Settings) -> MakeEmbedder:
    """Embedders as the settings describe them, each held to its own provider."""

    def make(name: str) -> Embedder:
        from provider.vectors.pinned import PinnedEmbedder

        return PinnedEmbedder(settings, name, facts(settings, name).query_prefix)

    return make


@dataclass(frozen=True)
class Facts:
    """What is known of a provider's embedding model without loading it."""

    pooling: str | None = None
    dimensions: int | None = None
    query_prefix: str = ""
    """What the model wants before a query (e5: `query: `); documents get theirs by themselves."""


def facts(settings: Settings, provider: str) -> Facts:
    """From the model's folder or the table of known models; nothing for hosted ones."""
    if provider != "local":
        return Facts()
    from provider.engine.embedding_facts import KNOWN, EmbeddingFacts, facts_for

    model = settings.local_embedding_model
    folder = Path(model).expanduser()
    known = facts_for(model, folder) if folder.is_dir() else KNOWN.get(model, EmbeddingFacts())
    width = settings.local_embedding_dimensions or known.dimensions
    return Facts(known.pooling, width, known.query_prefix)


def as_query(embedder: Embedder, text: str) -> str:
    """A text as its model wants queries."""
    prefix: str = getattr(embedder, "query_prefix", "")
    return text if text.startswith(prefix) else prefix + text


def embed(embedder: Embedder, space: Space, texts: Sequence[str]) -> list[Stored]:
    """The texts' vectors, ready to be stored in the space.

    Raises `UnusableVector` for a wrong number or width, NaN, infinity or a zero vector: pgvector
    would accept a zero vector and no cosine search would ever find its row.
    """
    if not texts:
        return []
    return stored(space, embedder.embed_texts(list(texts)), len(texts))


async def aembed(embedder: Embedder, space: Space, texts: Sequence[str]) -> list[Stored]:
    """`embed`, awaited; an embedder without an async face runs in a thread."""
    if not texts:
        return []
    if isinstance(embedder, AsyncEmbedder):
        return stored(space, await embedder.aembed_texts(list(texts)), len(texts))
    return await asyncio.to_thread(embed, embedder, space, texts)


def stored(space: Space, vectors: Sequence[Sequence[float]], expected: int) -> list[Stored]:
    """Vectors as pgvector's binary types, checked."""
    if len(vectors) != expected:
        raise UnusableVector(f"{expected} texts gave {len(vectors)} vectors")
    return [_stored(space.element, space.dimensions, vector) for vector in vectors]


def _stored(element: Element, dimensions: int, vector: Sequence[float]) -> Stored:
    if len(vector) != dimensions:
        raise UnusableVector(f"{len(vector)} dimensions where the space has {dimensions}")
    length = math.hypot(*vector)
    if not math.isfinite(length):
        raise UnusableVector("a vector with NaN or infinity")
    if length < 1e-6:
        raise UnusableVector("a zero vector, which no cosine search would find")
    values = vector if isinstance(vector, list) else list(vector)
    return HalfVector(values) if element == "halfvec" else Vector(values)


def probe(embedder: Embedder) -> list[float]:
    """The vector of the fixed text."""
    return [float(value) for value in embedder.embed_texts([PROBE])[0]]


def compare_probe(space: Space, vector: Sequence[float]) -> None:
    """Raise `ConfigurationError` when the embedder is not the one that filled the space."""
    if len(vector) != space.dimensions:
        raise ConfigurationError(
            f"The space {space.name!r} has {space.dimensions} dimensions, but its embedder gives "
            f"{len(vector)}: the model was changed. Set the old one again, or run "
            "`sllm db upgrade` and `sllm db backfill` for a space of the new one."
        )
    if space.probe is None:
        return
    similarity = cosine(space.probe, vector)
    if similarity < PROBE_COSINE:
        raise ConfigurationError(
            f"The space {space.name!r} was filled by another model than the one that is loaded: "
            f"the same text's vectors have cosine {similarity:.3f}, expected at least "
            f"{PROBE_COSINE}. Same width is not the same space. Set the old model again, or give "
            "the new one a space of its own: `sllm db upgrade`, then `sllm db backfill`."
        )


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / (math.hypot(*one) * math.hypot(*other) or 1.0)


def verdict(error: Exception) -> Verdict:
    """What an embedder's failure means for the texts that caused it.

    `poison`: this text will never work (4xx, a vector that must not be stored). `transient`: try
    again (429, 5xx, the network). `fatal`: no text will work (401, 403, 404).
    """
    status = getattr(error, "status_code", None) or getattr(error, "status", None)
    if isinstance(status, int):
        if status in (401, 403, 404):
            return "fatal"
        return "transient" if status in (408, 409, 429) or status >= 500 else "poison"
    if isinstance(error, ValueError):
        return "poison"
    names = {kind.__name__ for kind in type(error).__mro__}
    network = {"APIConnectionError", "ConnectionError", "TimeoutError"}
    return "transient" if names & network else "fatal"
