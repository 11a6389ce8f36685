"""What a migration is about to be run against: the database, and the revisions' parameters."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import Connection
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from migrations import parameters as p
from migrations.parameters import NewSpace, Parameters
from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors import catalog, database, embedding, source, spaces
from provider.vectors.database import Capabilities, Database
from provider.vectors.embedding import MakeEmbedder
from provider.vectors.flow import run
from provider.vectors.source import Source
from provider.vectors.spaces import Identity, Space

MEMORY_ELSEWHERE = 2048
"""MiB that an index build may take on a server whose memory is not known."""
_NEWEST = Capabilities(18, (0, 8, 0), "public")


@dataclass(frozen=True)
class Target:
    """A database and the parameters that its revisions run with."""

    parameters: Parameters
    database: Database | None

    @property
    def engine(self) -> Engine:
        """Connections for Alembic; nothing is pooled."""
        if self.database is None:
            raise ConfigurationError("This target was made for --sql and has no connection.")
        return engine(self.database)

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        make: MakeEmbedder | None = None,
        database: Database | None = None,
        offline: bool = False,
        force: bool = False,
        contract_confirmed: bool = False,
    ) -> Target:
        """Look at the database, ask embedders of unknown width, and decide the parameters.

        Offline nothing is looked at, and no embedder of a known model is loaded: the table is as
        revision 0001 makes it, and the space gets its probe at the first use.
        Raises `ConfigurationError` for what cannot work, before anything is changed.
        """
        make = make or embedding.from_settings(settings)
        if offline:
            found, table = _NEWEST, source.planned(settings)
            made = _parameters(settings, found, table, [], make, adopted=False, offline=True)
            memory = settings.vector_index_memory_mb or MEMORY_ELSEWHERE
            return cls(replace(made, force=force, index_settings=_patient(memory, 2)), None)
        database = database or Database(settings)
        with database.connect() as connection:
            found = _capabilities(connection)
            there = run(connection, source.inspect(settings))
            schema, _ = run(connection, source.located(settings))
            table = there or source.planned(settings, schema)
            known = _known_spaces(connection, table)
            rows = _estimated_rows(connection, table)
        p.check(settings, found, table.table_schema)
        source.check_whole(table)
        made = _parameters(settings, found, table, known, make, adopted=there is not None)
        index_settings = _index_settings(
            made, rows, embedded=database.embedded, limit=settings.vector_index_memory_mb
        )
        return cls(
            replace(
                made,
                force=force,
                contract_confirmed=contract_confirmed,
                index_settings=index_settings,
            ),
            database,
        )


def engine(database: Database) -> Engine:
    """Connections for Alembic; nothing is pooled."""
    return create_engine("postgresql+psycopg://", creator=database.connect, poolclass=NullPool)


def providers(settings: Settings) -> list[str]:
    """The providers whose spaces this database keeps: that of the app's column, and the other."""
    own = settings.vector_embedding_provider
    other = "openai" if own == "local" else "local"
    return list(dict.fromkeys([own, other, settings.embedding_provider]))


def _capabilities(connection: Connection[object]) -> Capabilities:
    """Like `database.capabilities`, but the extension may still be created."""
    missing = "select not exists (select from pg_extension where extname = 'vector')"
    row = connection.execute(missing).fetchone()
    if row == (True,):
        available = connection.execute(
            "select default_version from pg_available_extensions where name = 'vector'"
        ).fetchone()
        if available is None:
            raise ConfigurationError(
                "The database server has no pgvector; install it (0.5 or later) on the server, or "
                "unset DATABASE_URL for the embedded one."
            )
        version = tuple(int(part) for part in str(available[0]).split("."))  # type: ignore[index]
        home = "select coalesce(to_regnamespace('extensions')::text, current_schema(), 'public')"
        schema = str(connection.execute(home).fetchone()[0])  # type: ignore[index]
        return Capabilities(connection.info.server_version // 10000, version, schema)
    return run(connection, database.capabilities())


def _known_spaces(connection: Connection[object], table: Source) -> list[Space]:
    row = connection.execute(
        "select to_regclass(%s) is not null", [f"{table.schema}.embedding_spaces"]
    ).fetchone()
    return run(connection, catalog.spaces(table)) if row == (True,) else []


def _estimated_rows(connection: Connection[object], table: Source) -> int:
    row = connection.execute(
        "select greatest(reltuples, 0)::bigint from pg_class where oid = to_regclass(%s)",
        [table.relation.as_string(connection)],
    ).fetchone()
    return int(str(row[0])) if row else 0  # type: ignore[index]


def index_memory(made: Parameters, rows: int) -> int:
    """MiB that the graph of the widest space takes while it is built."""
    widest = max((s.identity.dimensions or 0 for s in made.spaces), default=0)
    return rows * (widest * 4 + 1024) * 11 // 10 // 2**20


def _index_settings(
    made: Parameters, rows: int, *, embedded: bool, limit: int | None
) -> list[tuple[str, str]]:
    """Settings of the session that builds the index.

    CREATE INDEX CONCURRENTLY waits for old transactions; it may wait as long as it likes, because
    nobody queues behind it. The graph must fit into maintenance_work_mem, or the build is three
    times slower. One processor stays with the apps.
    """
    limit = limit or (_memory() // 4 if embedded else MEMORY_ELSEWHERE)
    workers = max(0, min(7, (os.cpu_count() or 1) - 2)) if embedded else 2
    return _patient(max(64, min(index_memory(made, rows), limit)), workers)


def _memory() -> int:
    """Of this machine, in MiB."""
    if sys.platform == "win32":
        raise NotImplementedError("the embedded server does not run there")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _patient(memory: int, workers: int) -> list[tuple[str, str]]:
    return [
        ("lock_timeout", "0"),
        ("statement_timeout", "0"),
        ("maintenance_work_mem", f"'{memory}MB'"),
        ("max_parallel_maintenance_workers", str(workers)),
    ]


def _parameters(
    settings: Settings,
    found: Capabilities,
    table: Source,
    known: Sequence[Space],
    make: MakeEmbedder,
    *,
    adopted: bool,
    offline: bool = False,
) -> Parameters:
    extension = p.identifier(found.extension_schema)
    wanted = [
        _space(settings, table, known, make, provider, offline) for provider in providers(settings)
    ]
    side_spaces = [space for space in wanted if space.storage == "side_table"]
    own = next((s.identity for s in wanted if s.storage == "app_column"), None)
    element, width = (own.element, own.dimensions) if own else ("vector", 512)
    operators = spaces.OPERATOR_CLASSES[settings.vector_metric]
    return Parameters(
        source=table,
        schema=p.identifier(table.schema),
        extension=extension,
        adopted=adopted,
        own_type=f"{extension}.{element}({width})",
        own_operator_class=f"{extension}.{element}_{operators}",
        spaces=wanted,
        sides=[p.side(table.schema, s.identity.name, extension, s.identity) for s in side_spaces],
    )


def _space(
    settings: Settings,
    table: Source,
    known: Sequence[Space],
    make: MakeEmbedder,
    provider: str,
    offline: bool,
) -> NewSpace:
    """A provider's space as it is in the registry, or as it is going to be."""
    wanted = spaces.identity(settings, provider)
    column = table.embedding_column
    if column and provider == settings.vector_embedding_provider:
        return NewSpace(_own(settings, table, wanted), "app_column", column, None)
    for space in known:
        if space.state != "retired" and catalog.matches(wanted, space):
            identity = replace(wanted, dimensions=space.dimensions, element=space.element)
            return NewSpace(identity, space.storage, space.relation, space.probe)
    facts = embedding.facts(settings, provider)
    width = wanted.dimensions or (facts.dimensions if offline else None)
    probe = embedding.probe(make(provider)) if width is None else None
    identity = wanted.with_dimensions(len(probe) if probe else width or 0)
    return NewSpace(identity, "side_table", p.side_relation(identity.name), probe, facts.pooling)


def _own(settings: Settings, table: Source, wanted: Identity) -> Identity:
    """The space of the app's own column; its width is the column's."""
    column = table.column(table.embedding_column or "")
    if column is None:  # revision 0001 is going to make it
        return wanted.with_dimensions(wanted.dimensions or 512)
    found = re.fullmatch(r"(?:.*\.)?(vector|halfvec)\((\d+)\)", column.type)
    if found is None:
        raise ConfigurationError(
            f"VECTOR_EMBEDDING_COLUMN={column.name!r} has the type {column.type}; expected "
            "vector(n) or halfvec(n)."
        )
    element: spaces.Element = "halfvec" if found[1] == "halfvec" else "vector"
    width = int(found[2])
    if wanted.dimensions not in (None, width):
        raise ConfigurationError(
            f"VECTOR_EMBEDDING_COLUMN={column.name!r} has {width} dimensions, but the settings of "
            f"{settings.vector_embedding_provider!r} say {wanted.dimensions}; set "
            f"OPENAI_EMBEDDING_DIMENSIONS={width}."
        )
    return replace(wanted, dimensions=width, element=element)
