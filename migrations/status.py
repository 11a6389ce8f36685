"""The state of every space, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from migrations import chunks, registry, runner
from provider.settings import Settings
from provider.vectors import catalog, readiness
from provider.vectors.database import Database
from provider.vectors.flow import run
from provider.vectors.spaces import Space


@dataclass(frozen=True)
class SpaceStatus:
    """One space as it is now."""

    name: str
    provider: str
    model: str
    dimensions: int
    state: str
    active: bool
    """Whether this process's EMBEDDING_PROVIDER reads it."""
    missing: int
    pending: int
    lag_seconds: float
    poison: int
    backfill_done: float | None
    """Share of the backfill, None when none was started."""
    indexed: bool
    last_used_at: str | None


@dataclass(frozen=True)
class Status:
    """The whole database."""

    revision: str | None
    server: str
    table: str
    documents: int
    spaces: Sequence[SpaceStatus]

    def lines(self) -> list[str]:
        lines = [f"{self.server}, revision {self.revision}, {self.documents:,} in {self.table}"]
        for space in self.spaces:
            share = "" if space.backfill_done is None else f", backfill {space.backfill_done:.0%}"
            active = " <- EMBEDDING_PROVIDER" if space.active else ""
            lines += [
                f"{space.name} ({space.provider}, {space.dimensions}){active}",
                f"  {space.state}{share}, index {'yes' if space.indexed else 'no'}",
                f"  missing {space.missing:,}, queued {space.pending:,}, lag "
                f"{space.lag_seconds:.1f} s, poison {space.poison:,}",
            ]
        return lines


def status(settings: Settings) -> Status:
    """Count everything. Raises `ConfigurationError` before the first upgrade."""
    database = Database(settings)
    try:
        revision = runner.current(database, settings.vector_schema)
        with database.connect(autocommit=True) as connection:
            found = run(connection, catalog.load_whole(settings))
            table = f"{found.source.table_schema}.{found.source.table}"
            count = sql.SQL("select count(*) from {}").format(found.source.relation)
            row = connection.execute(count).fetchone()
            version = ".".join(map(str, found.capabilities.pgvector))
            server = f"PostgreSQL {found.capabilities.server}, pgvector {version}"
            spaces = [
                _space(connection, found, space, settings)
                for space in found.spaces
                if space.state != "retired"
            ]
        where = "embedded " if database.embedded else ""
        return Status(revision, where + server, table, int(row[0]) if row else 0, spaces)
    finally:
        database.close()


def _space(
    connection: Any, found: catalog.Catalog, space: Space, settings: Settings
) -> SpaceStatus:
    counted = readiness.of(connection, found, space)
    done = chunks.progress(connection, found.source, space)
    used = sql.SQL("select last_used_at from {} where id = %s").format(
        found.source.own("embedding_spaces")
    )
    row = connection.execute(used, [space.id]).fetchone()
    return SpaceStatus(
        space.name,
        space.provider,
        space.model,
        space.dimensions,
        space.state,
        space.provider == settings.embedding_provider,
        counted.missing,
        counted.pending,
        counted.lag_seconds,
        counted.poison,
        done.rows_done / done.rows if done.rows else None,
        registry.has_index(connection, found.source, space) if space.side else True,
        row[0].isoformat() if row and row[0] else None,
    )
