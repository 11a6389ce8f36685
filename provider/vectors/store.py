"""The store: documents and their vectors in the space of the configured provider.

    with VectorStore() as store:
        store.add(["방 세 개 아파트", {"content": "...", "metadata": {"rooms": 3}}])
        hits = store.search("거실이 넓은 집", k=5, filter={"rooms": {"gte": 2}})

Both faces run the same flows (`operations`, `search`); what differs is only who waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from psycopg_pool import AsyncConnectionPool, ConnectionPool

from provider.settings import Settings
from provider.vectors import database, embedding, operations, search
from provider.vectors.catalog import Catalog
from provider.vectors.database import Database
from provider.vectors.embedding import Embedder, MakeEmbedder, Stored
from provider.vectors.filters import Filter
from provider.vectors.flow import Flow, arun, run
from provider.vectors.opening import check
from provider.vectors.operations import NewDocument
from provider.vectors.search import Hit, Mode
from provider.vectors.spaces import Space
from provider.vectors.staging import RowId

T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Opened:
    """What both faces know once they are open. Nothing here talks to the database."""

    def __init__(self, settings: Settings | None, make: MakeEmbedder | None) -> None:
        self.settings = settings or Settings()
        self._make = make or embedding.from_settings(self.settings)
        self._database = Database(self.settings)
        self._embedders: dict[str, Embedder] = {}
        self._catalog: Catalog | None = None
        self._space: Space | None = None

    @property
    def space(self) -> Space:
        """The space that this process reads and writes."""
        if self._space is None:
            raise RuntimeError("The store is not open: use it in a `with` block, or call open().")
        return self._space

    @property
    def catalog(self) -> Catalog:
        """What the database holds, read when the store was opened."""
        if self._catalog is None:
            raise RuntimeError("The store is not open: use it in a `with` block, or call open().")
        return self._catalog

    def embedder(self, space: Space) -> Embedder:
        """The embedder of a space's provider, made when it is first needed."""
        if space.provider not in self._embedders:
            self._embedders[space.provider] = self._make(space.provider)
        return self._embedders[space.provider]

    def check(self) -> None:
        """The checks of the start; see `provider.vectors.opening`."""
        self._catalog, self._space = check(self._database, self.settings, self.embedder)

    def written_spaces(self) -> list[Space]:
        """The spaces that a write embeds for at once: its own, and with `sync` all others."""
        if self.settings.embedding_dual_write != "sync":
            return [self.space]
        live = [space for space in self.catalog.spaces if space.state != "retired"]
        return [self.space, *(space for space in live if space.id != self.space.id)]

    def merged(self, current: Mapping[str, Any], values: Mapping[str, Any]) -> str:
        """The text of a row after a change."""
        return operations.text_of(self.catalog.source, {**current, **values})

    def touches_text(self, values: Mapping[str, Any]) -> bool:
        operations.check_columns(self.catalog.source, values)
        return any(name in values for name in self.catalog.source.text_columns)

    def search_flow(
        self, vector: Stored, k: int, filter: Filter | None, mode: Mode
    ) -> Flow[list[Hit]]:
        ef_search = self.settings.vector_ef_search
        return search.search(self.catalog, self.space, vector, k, filter or {}, mode, ef_search)


class VectorStore(_Opened):
    """The synchronous face. Safe to use from several threads; open once per process.

    `make` builds the embedder of a provider by its name; unset, the provider layer does. Opening
    raises `ConfigurationError` when the space is not there, was filled by another model, or lacks
    rows (`EMBEDDING_ON_INCOMPLETE=warn` opens it all the same).
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        make: MakeEmbedder | None = None,
        pool_size: int = 8,
    ) -> None:
        super().__init__(settings, make)
        self._pool = ConnectionPool(
            self._database.conninfo,
            configure=database.configure,
            min_size=1,
            max_size=pool_size,
            open=False,
        )

    def open(self) -> VectorStore:
        self.check()
        self._pool.open()
        return self

    def close(self) -> None:
        self._pool.close()
        self._database.close()

    def __enter__(self) -> VectorStore:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, documents: Sequence[NewDocument]) -> list[RowId]:
        """Insert documents with their vectors; returns their keys in order.

        Raises `InvalidRequest` for unknown columns and empty texts, before anything is embedded.
        """
        if not documents:
            return []
        rows = operations.rows_of(self.catalog.source, documents)
        texts = [operations.text_of(self.catalog.source, row) for row in rows]
        return self._run(operations.add(self.catalog, rows, texts, self._embed(texts)))

    def update(self, row_id: RowId, values: Mapping[str, Any]) -> bool:
        """Change columns of one document; a changed text is embedded. False: no such row."""
        if not self.touches_text(values):
            return self._run(operations.update(self.catalog, row_id, values, None, {}))
        current = self._run(operations.current(self.catalog, row_id))
        if current is None:
            return False
        text = self.merged(current, values)
        vectors = self._embed([text])
        return self._run(operations.update(self.catalog, row_id, values, text, vectors))

    def delete(self, ids: Sequence[RowId]) -> int:
        """Delete documents and their vectors; returns how many there were."""
        return self._run(operations.delete(self.catalog, ids))

    def search(
        self, text: str, k: int = 10, filter: Filter | None = None, mode: Mode = "auto"
    ) -> list[Hit]:
        """The `k` documents nearest to the text, nearest first; see `provider.vectors.search`."""
        return self.search_vector(self._embed_query(text), k, filter, mode)

    def search_vector(
        self,
        vector: Stored,
        k: int = 10,
        filter: Filter | None = None,
        mode: Mode = "auto",
    ) -> list[Hit]:
        """`search` with a vector of this space."""
        return self._run(self.search_flow(vector, k, filter, mode))

    def _embed_query(self, text: str) -> Stored:
        embedder = self.embedder(self.space)
        return embedding.embed(embedder, self.space, [embedding.as_query(embedder, text)])[0]

    def _embed(self, texts: Sequence[str]) -> dict[str, list[Stored]]:
        own = embedding.embed(self.embedder(self.space), self.space, texts)
        vectors = {self.space.name: own}
        for space in self.written_spaces()[1:]:
            try:
                vectors[space.name] = embedding.embed(self.embedder(space), space, texts)
            except Exception as error:  # noqa: BLE001 - any embedder's; the queue takes over
                _log_queued(space, error)
        return vectors

    def _run(self, flow: Flow[T]) -> T:
        with self._pool.connection() as connection:
            return run(connection, flow)


class AsyncVectorStore(_Opened):
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
        rows = operations.rows_of(self.catalog.source, documents)
        texts = [operations.text_of(self.catalog.source, row) for row in rows]
        vectors = await self._embed(texts)
        return await self._run(operations.add(self.catalog, rows, texts, vectors))

    async def update(self, row_id: RowId, values: Mapping[str, Any]) -> bool:
        """See `VectorStore.update`."""
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
        embedder = self.embedder(self.space)
        asked = [embedding.as_query(embedder, text)]
        vector = (await embedding.aembed(embedder, self.space, asked))[0]
        return await self.search_vector(vector, k, filter, mode)

    async def search_vector(
        self,
        vector: Stored,
        k: int = 10,
        filter: Filter | None = None,
        mode: Mode = "auto",
    ) -> list[Hit]:
        """See `VectorStore.search_vector`."""
        return await self._run(self.search_flow(vector, k, filter, mode))

    async def _embed(self, texts: Sequence[str]) -> dict[str, list[Stored]]:
        own = await embedding.aembed(self.embedder(self.space), self.space, texts)
        vectors = {self.space.name: own}
        for space in self.written_spaces()[1:]:
            try:
                vectors[space.name] = await embedding.aembed(self.embedder(space), space, texts)
            except Exception as error:  # noqa: BLE001 - any embedder's; the queue takes over
                _log_queued(space, error)
        return vectors

    async def _run(self, flow: Flow[T]) -> T:
        if self._pool is None:
            raise RuntimeError("The store is not open: use it in an `async with` block.")
        async with self._pool.connection() as connection:
            return await arun(connection, flow)

    async def _conninfo(self) -> str:
        return await asyncio.to_thread(self._database.conninfo)


def _log_queued(space: Space, error: Exception) -> None:
    _log.warning("the space %s gets this write through the queue: %s", space.name, error)
