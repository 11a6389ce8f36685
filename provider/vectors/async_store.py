"""The store's asynchronous face: the same methods over the same flows, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from psycopg_pool import AsyncConnectionPool

from provider.settings import Settings
from provider.vectors import database, embedding, operations
from provider.vectors.embedding import MakeEmbedder, Stored
from provider.vectors.filters import Filter
from provider.vectors.flow import Flow, arun
from provider.vectors.opened import Opened, log_queued
from provider.vectors.operations import NewDocument
from provider.vectors.search import Hit, Mode
from provider.vectors.staging import RowId

T = TypeVar("T")


class AsyncVectorStore(Opened):
    """The asynchronous face: the same methods, awaited."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        make: MakeEmbedder | None = None,
        pool_size: int = 8,
    ) -> None:
        super().__init__(settings, make)
        self._pool_size = pool_size
        self._pool: AsyncConnectionPool | None = None

    async def open(self) -> AsyncVectorStore:
        await asyncio.to_thread(self.check)
        self._pool = AsyncConnectionPool(
            self._conninfo,
            configure=database.aconfigure,
            min_size=1,
            max_size=self._pool_size,
            open=False,
        )
        await self._pool.open()
        return self

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
        self._database.close()

    async def __aenter__(self) -> AsyncVectorStore:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def add(self, documents: Sequence[NewDocument]) -> list[RowId]:
        """See `VectorStore.add`."""
        if not documents:
            return []
        await self._ready()
        rows = operations.rows_of(self.catalog.source, documents)
        texts = [operations.text_of(self.catalog.source, row) for row in rows]
        vectors = await self._embed(texts)
        return await self._run(operations.add(self.catalog, rows, texts, vectors))

    async def update(self, row_id: RowId, values: Mapping[str, Any]) -> bool:
        """See `VectorStore.update`."""
        await self._ready()
        if not self.touches_text(values):
            return await self._run(operations.update(self.catalog, row_id, values, None, {}))
        current = await self._run(operations.current(self.catalog, row_id))
        if current is None:
            return False
        text = self.merged(current, values)
        vectors = await self._embed([text])
        return await self._run(operations.update(self.catalog, row_id, values, text, vectors))

    async def delete(self, ids: Sequence[RowId]) -> int:
        """See `VectorStore.delete`."""
        return await self._run(operations.delete(self.catalog, ids))

    async def search(
        self, text: str, k: int = 10, filter: Filter | None = None, mode: Mode = "auto"
    ) -> list[Hit]:
        """See `VectorStore.search`."""
        await self._ready()
        space = self.space
        embedder = self.embedder(space)
        asked = [embedding.as_query(embedder, text)]
        vector = (await embedding.aembed(embedder, space, asked))[0]
        return await self._run(self.search_flow(space, vector, k, filter, mode))

    async def search_vector(
        self,
        vector: Stored,
        k: int = 10,
        filter: Filter | None = None,
        mode: Mode = "auto",
    ) -> list[Hit]:
        """See `VectorStore.search_vector`."""
        return await self._run(self.search_flow(self.space, vector, k, filter, mode))

    async def _embed(self, texts: Sequence[str]) -> dict[str, list[Stored]]:
        first, *others = self.written_spaces()
        vectors = {first.name: await embedding.aembed(self.embedder(first), first, texts)}
        for space in others:
            try:
                vectors[space.name] = await embedding.aembed(self.embedder(space), space, texts)
            except Exception as error:  # noqa: BLE001 - any embedder's; the queue takes over
                log_queued(space, error)
        return vectors

    async def _ready(self) -> None:
        if self.behind():
            await asyncio.to_thread(self.follow)

    async def _run(self, flow: Flow[T]) -> T:
        if self._pool is None:
            raise RuntimeError("The store is not open: use it in an `async with` block.")
        async with self._pool.connection() as connection:
            return await arun(connection, flow)

    async def _conninfo(self) -> str:
        return await asyncio.to_thread(self._database.conninfo)
