"""The embedding model of this process, under the name it is served as."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from provider.local.cl100k import Cl100k


class Vectors(Protocol):
    """What an embedder returns: `vectors` float32 [n, d], `token_counts` n integers."""

    @property
    def vectors(self) -> Any: ...
    @property
    def token_counts(self) -> Sequence[int]: ...


class Embedder(Protocol):
    """What is needed of `provider.engine.embedder.Embedder`; `embed` is called from threads."""

    @property
    def dimensions(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def embed(self, texts: Sequence[str]) -> Vectors: ...


@dataclass(frozen=True)
class Embedding:
    """`encoding` decodes token ids of OpenAI's, where it is at hand."""

    embedder: Embedder
    name: str
    encoding: Cl100k | None = None

    async def rows(self, texts: Sequence[str]) -> tuple[list[bytes], list[int]]:
        """Each text's vector as little-endian float32, and its length in tokens."""
        embedded = await asyncio.to_thread(self.embedder.embed, texts)
        rows = embedded.vectors.astype("<f4", copy=False)
        return [row.tobytes() for row in rows], [int(count) for count in embedded.token_counts]

    def facts(self) -> dict[str, Any]:
        """Fields for `/v1/models`."""
        embedder = self.embedder
        return {
            "dimensions": embedder.dimensions,
            "context_length": embedder.max_tokens,
            "fingerprint": embedder.fingerprint,
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        return [f"embedder  {self.name}, {self.embedder.dimensions} dimensions"]

    def close(self) -> None:
        """Nothing to end: the embedder has no thread of its own."""
