"""Spaces that come after the first migration: registered, indexed and retired without a revision.

The first pair of spaces is made by revision 0002 and indexed by 0003; a new model later gets its
side table from the same function in the database, and its index here.
"""

from __future__ import annotations

from typing import Any

import psycopg
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg import sql
from sqlalchemy import text
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from migrations import parameters as p
from migrations import runner
from migrations.parameters import NewSpace
from migrations.target import Target
from provider.errors import ConfigurationError
from provider.vectors import catalog
from provider.vectors.database import Database
from provider.vectors.flow import run
from provider.vectors.source import Source
from provider.vectors.spaces import Space

_LOCK_TIMEOUT = "200ms"


def register(target: Target) -> list[str]:
    """Make the spaces of the target that are not in the registry yet; returns their names. Rights
    and policies of the table as they are now go over to the side tables."""
    source = target.parameters.source
    made: list[str] = []
    database = connected(target)
    with runner.alone(database, source.schema, 60.0), database.connect(autocommit=True) as one:
        known = {space.name for space in run(one, catalog.spaces(source))}
        one.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        for space in target.parameters.spaces:
            if space.identity.name not in known:
                _create(one, source, space)
                made.append(space.identity.name)
        grant = sql.SQL("select {}()").format(source.own("grant_access"))
        for attempt in _patiently():
            with attempt:
                one.execute(grant)
    return made


def repair_triggers(target: Target) -> list[str]:
    """Create the triggers that were dropped, enable those that were disabled; returns their names.

    Rows that were changed meanwhile are found by a backfill (missing) and by a verification
    (stale).
    """
    source = target.parameters.source
    database = connected(target)
    with database.connect(autocommit=True) as one:
        lost = lost_triggers(one, source)
    if not lost:
        return []
    module: Any = runner.revision(target, runner.EXPANDED)
    for attempt in _patiently():
        with attempt, target.engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            with Operations.context(MigrationContext.configure(connection)):
                module.create_triggers(target.parameters)
            for name in lost:
                enable = (
                    f"ALTER TABLE {target.parameters.table} ENABLE TRIGGER {p.identifier(name)}"
                )
                connection.execute(text(enable))
    return lost


def lost_triggers(connection: psycopg.Connection[Any], source: Source) -> list[str]:
    """Our triggers that are not there or do not fire."""
    events = ("insert", "update", "delete", "truncate")
    wanted = {f"zz_{source.schema}_{event}" for event in events}
    rows = connection.execute(
        "select tgname from pg_trigger where tgrelid = to_regclass(%s) and tgenabled in ('O', 'A')",
        [source.relation.as_string(connection)],
    )
    return sorted(wanted - {row[0] for row in rows})


def _patiently() -> Retrying:
    """Locks that are not free are given up after 200 ms and tried again."""
    return Retrying(
        retry=retry_if_exception(_locked),
        wait=wait_random(1.0, 2.0),
        stop=stop_after_delay(120),
        reraise=True,
    )


def _locked(error: BaseException) -> bool:
    return isinstance(getattr(error, "orig", error), psycopg.errors.LockNotAvailable)


def _create(connection: psycopg.Connection[Any], source: Source, space: NewSpace) -> None:
    i = space.identity
    call = sql.SQL(
        "select {}(%s, %s, %s, %s, %s::int, %s, %s, %s, %s, %s, %s::real[], %s, %s::boolean)"
    ).format(source.own("create_space"))
    values: list[Any] = [i.name, i.provider, i.model, i.revision, i.dimensions, i.element, i.metric]
    probe = list(space.probe) if space.probe is not None else None
    values += [i.fingerprint, space.storage, space.relation, probe, space.pooling, space.normalised]
    for attempt in _patiently():
        with attempt:
            connection.execute(call, values)


def index(target: Target) -> list[str]:
    """Index the side tables that are filled and have no valid index; returns the spaces' names.

    Revision 0003 does it the first time. Raises `ConfigurationError` while rows are missing.
    """
    database = connected(target)
    source = target.parameters.source
    runner.upgrade(target, runner.INDEXED)
    built: list[str] = []
    with runner.alone(database, source.schema, 60.0), database.connect(autocommit=True) as one:
        for space in run(one, catalog.spaces(source)):
            if space.side and space.state != "retired" and not has_index(one, source, space):
                _build(one, target, source, space)
                built.append(space.name)
    return built


def has_index(connection: psycopg.Connection[Any], source: Source, space: Space) -> bool:
    """Whether the space's side table has a valid HNSW index."""
    row = connection.execute(
        "select exists (select from pg_index i join pg_class c on c.oid = i.indrelid "
        "join pg_namespace n on n.oid = c.relnamespace join pg_class x on x.oid = i.indexrelid "
        "join pg_am a on a.oid = x.relam where n.nspname = %s and c.relname = %s "
        "and a.amname = 'hnsw' and i.indisvalid)",
        [source.schema, space.relation],
    ).fetchone()
    return row == (True,)


def _build(
    connection: psycopg.Connection[Any], target: Target, source: Source, space: Space
) -> None:
    parameters = target.parameters
    name = sql.Identifier(p.shortened(f"{space.relation}_hnsw"))
    for setting, value in parameters.index_settings:
        connection.execute(f"set {setting} = {value}")
    connection.execute(
        sql.SQL("drop index if exists {}.{}").format(sql.Identifier(source.schema), name)
    )
    operators = sql.SQL(f"{parameters.extension}.{space.operator_class}")
    connection.execute(
        sql.SQL(
            "create index concurrently {} on {} using hnsw (embedding {}) "
            "with (m = {}, ef_construction = {})"
        ).format(
            name,
            source.own(space.relation),
            operators,
            sql.Literal(parameters.hnsw_m),
            sql.Literal(parameters.hnsw_ef_construction),
        )
    )


def connected(target: Target) -> Database:
    if target.database is None:
        raise ConfigurationError("A target made for --sql cannot be run.")
    return target.database
