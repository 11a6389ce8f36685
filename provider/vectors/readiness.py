"""Whether a space may be read: how many rows it lacks, and how far it is behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from provider.settings import Settings
from provider.vectors import catalog, embedding, queue
from provider.vectors.catalog import Catalog
from provider.vectors.database import Database
from provider.vectors.embedding import Embedder, MakeEmbedder
from provider.vectors.flow import run
from provider.vectors.mirror import Drainer
from provider.vectors.spaces import Space

_log = logging.getLogger(__name__)

CATCH_UP_SECONDS = 10.0
"""How long a flip drains what was written a moment ago before it is refused."""


@dataclass(frozen=True)
class Readiness:
    """The state of one space."""

    space: str
    state: str
    missing: int
    """Documents without a vector, poison rows not counted."""
    pending: int
    """Entries in the queue: rows that are missing or stale."""
    lag_seconds: float
    poison: int

    @property
    def ready(self) -> bool:
        return self.missing == 0 and self.state != "retired"

    def sentence(self) -> str:
        """Why it is not ready, with the way out; empty when it is."""
        if self.state == "retired":
            return f"The space {self.space!r} was retired."
        if self.missing == 0:
            return ""
        return (
            f"The space {self.space!r} lacks {self.missing} rows; searches would not find them. "
            "Run `sllm db backfill` (or `sllm db sync` for rows that were changed since), or set "
            "EMBEDDING_ON_INCOMPLETE=warn to use it as it is."
        )


def of(connection: psycopg.Connection[Any], found: Catalog, space: Space) -> Readiness:
    """Count. One pass over the keys while the backfill is unfinished; after it, the queue's rows
    are the only ones that can be missing, so it costs no more than the queue is long."""
    source = found.source
    depth = queue.depth(connection, source, space)
    poison = _one(
        connection,
        "select count(*) from {} where space_id = %s",
        source.own("dead_letters"),
        space.id,
    )
    call = "select {}(%s)"
    missing = _one(connection, call, source.own("missing"), space.name)
    return Readiness(space.name, space.state, missing, depth.entries, depth.oldest_seconds, poison)


def caught_up(
    connection: psycopg.Connection[Any],
    found: Catalog,
    space: Space,
    embedder: Callable[[], Embedder],
) -> Readiness:
    """Count, after embedding rows that were written a moment ago. An embedder that fails leaves
    them to the mirror."""
    counted = of(connection, found, space)
    if 0 < counted.missing <= counted.pending:
        try:
            Drainer(connection, found.source, space, embedder()).drain(CATCH_UP_SECONDS)
        except psycopg.Error:
            raise
        except Exception as error:  # noqa: BLE001 - an embedder of any library; the count tells
            _log.warning("the space %s could not catch up: %s", space.name, error)
        counted = of(connection, found, space)
    return counted


def _one(connection: psycopg.Connection[Any], text: str, name: sql.Composable, value: Any) -> int:
    row = connection.execute(sql.SQL(text).format(name), [value]).fetchone()
    return int(row[0]) if row else 0


def check_readiness(
    settings: Settings,
    provider: str | None = None,
    *,
    make: MakeEmbedder | None = None,
    catch_up: bool = True,
) -> Readiness:
    """Whether `EMBEDDING_PROVIDER` may be set to `provider` now.

    With `catch_up` rows that were written a moment ago are embedded first, for at most ten
    seconds. Raises `ConfigurationError` when the provider has no space here.
    """
    database = Database(settings)
    make = make or embedding.from_settings(settings)
    try:
        with database.connect(autocommit=True) as connection:
            found = run(connection, catalog.load(settings))
            space = found.of(settings, provider or settings.embedding_provider)
            if not catch_up:
                return of(connection, found, space)
            return caught_up(connection, found, space, lambda: make(space.provider))
    finally:
        database.close()
