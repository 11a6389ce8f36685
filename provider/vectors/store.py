"""The store: documents and their vectors in the space of the configured provider.

    with VectorStore() as store:
        store.add(["방 세 개 아파트", {"content": "...", "metadata": {"rooms": 3}}])
        hits = store.search("거실이 넓은 집", k=5, filter={"rooms": {"gte": 2}})

Both faces run the same flows (`operations`, `search`); what differs is only who waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from psycopg_pool import ConnectionPool

from provider.settings import Settings
from provider.vectors import database, embedding, operations
from provider.vectors.embedding import MakeEmbedder, Stored
from provider.vectors.filters import Filter
from provider.vectors.flow import Flow, run
from provider.vectors.opened import Opened, log_queued
from provider.vectors.operations import NewDocument
from provider.vectors.search import Hit, Mode
from provider.vectors.staging import RowId

T = TypeVar("T")


class VectorStore(Opened):
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
        self._ready()
        rows = operations.rows_of(self.catalog.source, documents)
        texts = [operations.text_of(self.catalog.source, row) for row in rows]
        return self._run(operations.add(self.catalog, rows, texts, self._embed(texts)))

    def update(self, row_id: RowId, values: Mapping[str, Any]) -> bool:
        """Change columns of one document; a changed text is embedded. False: no such row."""
        self._ready()
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
        self._ready()
        space = self.space
        embedder = self.embedder(space)
        vector = embedding.embed(embedder, space, [embedding.as_query(embedder, text)])[0]
        return self._run(self.search_flow(space, vector, k, filter, mode))

    def search_vector(
        self,
        vector: Stored,
        k: int = 10,
        filter: Filter | None = None,
        mode: Mode = "auto",
    ) -> list[Hit]:
        """`search` with a vector of this space."""
        return self._run(self.search_flow(self.space, vector, k, filter, mode))

    def _embed(self, texts: Sequence[str]) -> dict[str, list[Stored]]:
        first, *others = self.written_spaces()
        vectors = {first.name: embedding.embed(self.embedder(first), first, texts)}
        for space in others:
            try:
                vectors[space.name] = embedding.embed(self.embedder(space), space, texts)
            except Exception as error:  # noqa: BLE001 - any embedder's; the queue takes over
                log_queued(space, error)
        return vectors

    def _ready(self) -> None:
        if self.behind():
            self.follow()

    def _run(self, flow: Flow[T]) -> T:
        with self._pool.connection() as connection:
            return run(connection, flow)
