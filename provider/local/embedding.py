"""The embedding model of this process: its queue, and the name it is served as."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provider.local.cl100k import Cl100k
from provider.protocol.embeddings import MAX_TOKENS, check_total

if TYPE_CHECKING:
    from provider.engine.embed_queue import EmbedQueue
    from provider.engine.embedder import Embedder


@dataclass(frozen=True)
class Embedding:
    """`queue` batches the texts of many clients; `encoding` decodes token ids of OpenAI's, where
    it is at hand."""

    embedder: Embedder
    queue: EmbedQueue
    name: str
    encoding: Cl100k | None = None

    async def rows(self, texts: Sequence[str]) -> tuple[list[bytes], int]:
        """Each text's vector as little-endian float32, and the tokens of them all.

        Raises `InvalidRequest` for a text that is too long or too many tokens altogether.
        """
        if sum(map(len, texts)) * _BYTES_PER_CHARACTER > MAX_TOKENS:
            check_total(await asyncio.to_thread(self.embedder.count_tokens, texts))
        embedded = await self.queue.embed(texts)
        rows = embedded.vectors.astype("<f4", copy=False)
        return [row.tobytes() for row in rows], sum(embedded.token_counts)

    def facts(self) -> dict[str, Any]:
        """Fields for `/v1/models`; the first call reads the weights for their fingerprint."""
        embedder = self.embedder
        return {
            "dimensions": embedder.dimensions,
            "context_length": embedder.max_tokens,
            "pooling": embedder.pooling,
            "licence": embedder.licence,
            "fingerprint": embedder.fingerprint,
            **({"demo": True} if embedder.demo else {}),
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        return self.embedder.lines()

    def close(self) -> None:
        self.queue.close()


_BYTES_PER_CHARACTER = 4
"""Most bytes of a character, and so most tokens of one: below that, texts need no counting."""
