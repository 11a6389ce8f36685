"""Gives a space up for good, after everything that only it has was put into a file."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic.util import CommandError
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from migrations import registry, runner
from migrations.fill import note
from migrations.target import Target
from provider.errors import ConfigurationError
from provider.vectors import catalog, readiness
from provider.vectors.catalog import Catalog
from provider.vectors.database import capabilities
from provider.vectors.flow import run
from provider.vectors.spaces import Space


def archive(target: Target, space: Space, path: Path) -> int:
    """Write keys and vectors of a space as PostgreSQL's binary COPY; returns the bytes.

    `COPY table (key, vector) FROM 'path' (FORMAT binary)` reads it back. An existing file is not
    overwritten.
    """
    source = target.parameters.source
    key = "row_id" if space.side else source.id_column
    column = "embedding" if space.side else space.relation
    relation = source.own(space.relation) if space.side else source.relation
    statement = sql.SQL(
        "copy (select {}, {} from {} where {} is not null) to stdout (format binary)"
    )
    made = statement.format(
        sql.Identifier(key), sql.Identifier(column), relation, sql.Identifier(column)
    )
    written = 0
    with (
        path.open("xb") as file,
        registry.connected(target).connect() as connection,
        connection.cursor().copy(made) as reader,
    ):
        for piece in reader:
            written += file.write(piece)
    return written


def contract_column(target: Target) -> None:
    """Drop the app's own vector column (revision 0004).

    Raises `ConfigurationError` while anything would be lost: without an explicit yes, when no
    other space was verified and is complete, when a process used the column's space within a day.
    """
    try:
        runner.upgrade(target, runner.CONTRACTED)
    except CommandError as error:
        raise ConfigurationError(str(error)) from error


def retire(target: Target, space: Space, *, force: bool = False) -> None:
    """Drop a side table; its row in the registry stays, as `retired`.

    Raises `ConfigurationError` when no other space is complete, or when a process used this one
    within a day; `force` skips the latter only.
    """
    source = target.parameters.source
    with registry.connected(target).connect(autocommit=True) as connection:
        found = Catalog(
            source, run(connection, catalog.spaces(source)), run(connection, capabilities())
        )
        others = [s for s in found.spaces if s.id != space.id and s.state != "retired"]
        if not any(readiness.of(connection, found, other).ready for other in others):
            raise ConfigurationError(
                f"Refused: no other space is complete, so {space.name!r} is the only one that "
                "finds every document. Run `sllm db backfill` for another one first."
            )
        used = sql.SQL(
            "select last_used_at from {} where id = %s and last_used_at > now() - interval '1 day'"
        ).format(source.own("embedding_spaces"))
        row = connection.execute(used, [space.id]).fetchone()
        if row is not None and not force:
            raise ConfigurationError(
                f"Refused: a process used the space {space.name!r} at {row[0]}. Switch every "
                "process, wait a day, or repeat with --force."
            )
        for attempt in Retrying(
            retry=retry_if_exception_type(psycopg.errors.LockNotAvailable),
            wait=wait_random(1.0, 2.0),
            stop=stop_after_delay(120),
            reraise=True,
        ):
            with attempt, connection.transaction():
                connection.execute("set local lock_timeout = '200ms'")
                _drop(connection, found, space)
        note(connection, source, space.name, "retired")


def _drop(connection: psycopg.Connection[object], found: Catalog, space: Space) -> None:
    source = found.source
    mark = sql.SQL(  # its name and fingerprint become free for a new space of the same model
        "update {} set state = 'retired', name = concat(name, ' retired ', id), "
        "fingerprint = concat(fingerprint, ' retired ', id) where id = %s"
    )
    connection.execute(mark.format(source.own("embedding_spaces")), [space.id])
    for table in ("queue", "dead_letters", "backfill_chunks"):
        clear = sql.SQL("delete from {} where space_id = %s").format(source.own(table))
        connection.execute(clear, [space.id])
    connection.execute(sql.SQL("drop table {}").format(source.own(space.relation)))
