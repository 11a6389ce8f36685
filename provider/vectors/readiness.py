"""Whether a space may be read: how many rows it lacks, and how far it is behind."""

from __future__ import annotations

import logging
import time
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
    """Documents without a vector; neither poison rows nor those written since the count began."""
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


def of(
    connection: psycopg.Connection[Any], found: Catalog, space: Space, since: int | None = None
) -> Readiness:
    """Count, with one pass over the keys. Rows queued after the entry `since` are not missing."""
    source = found.source
    depth = queue.depth(connection, source, space)
    letters = sql.SQL("select count(*) from {} where space_id = %s")
    missing = sql.SQL("select {}(%s, %s)").format(source.own("missing"))
    poison = connection.execute(letters.format(source.own("dead_letters")), [space.id]).fetchone()
    lacking = connection.execute(missing, [space.name, since]).fetchone()
    return Readiness(
        space.name,
        space.state,
        int(lacking[0]) if lacking else 0,
        depth.entries,
        depth.oldest_seconds,
        int(poison[0]) if poison else 0,
    )


def caught_up(
    connection: psycopg.Connection[Any],
    found: Catalog,
    space: Space,
    embedder: Callable[[], Embedder],
) -> Readiness:
    """Count, after embedding rows that were written a moment ago. An embedder that fails leaves
    them to the mirror."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        since = queue.edge(connection, found.source, space, "max") or 0
        counted = of(connection, found, space, since)
        left = deadline - time.monotonic()
        # Rows are missing but not queued: no draining helps. An entry may also commit after a
        # newer one, hence the loop.
        if counted.missing == 0 or counted.missing > counted.pending or left <= 0:
            return counted
        if not found.source.whole:
            return counted
        try:
            Drainer(connection, found.source, space, embedder()).catch_up(left)
        except psycopg.errors.InsufficientPrivilege:  # an app's role; the mirror has the rights
            time.sleep(0.2)
        except psycopg.Error:
            raise
        except Exception as error:  # noqa: BLE001 - an embedder of any library; the count tells
            _log.warning("the space %s could not catch up: %s", space.name, error)
            return of(connection, found, space, since)


def refusal(settings: Settings, provider: str) -> str | None:
    """Why embeddings must not be switched to this provider now, with the number of missing rows;
    None when they may, or when there is no database of ours to ask.

    Does not start an embedded server that was never used.
    """
    embedded = settings.embedded_database_dir / "data" / "PG_VERSION"
    if settings.database_url is None and not embedded.exists():
        return None
    database = Database(settings)
    try:
        with database.connect() as connection:
            registry = f"{settings.vector_schema}.embedding_spaces"
            row = connection.execute("select to_regclass(%s) is null", [registry]).fetchone()
        if row == (True,):
            return None
        return check_readiness(settings, provider).sentence() or None
    finally:
        database.close()


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
