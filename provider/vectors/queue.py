"""The queue that the triggers fill: which row changed, for which space.

Entries are claimed with SKIP LOCKED, a lease and the claiming session's process id. A worker that
was killed has no session any more, so its entries are free at once; the lease is for everything
else. An app never touches the queue: deleting from it there would deadlock with the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql

from provider.vectors.source import Source
from provider.vectors.spaces import Space
from provider.vectors.staging import RowId

LEASE_SECONDS = 60
MOST_ATTEMPTS = 8


@dataclass(frozen=True)
class Entry:
    seq: int
    row_id: RowId
    attempts: int


@dataclass(frozen=True)
class Depth:
    """What waits for a space."""

    entries: int
    oldest_seconds: float
    """Age of the oldest entry, 0 when there is none: the lag of the space."""


def claim(
    connection: psycopg.Connection[Any], source: Source, space: Space, limit: int
) -> list[Entry]:
    """Up to `limit` entries for this session alone, oldest first, in a transaction of its own."""
    statement = sql.SQL(
        "update {queue} set claimed_by = pg_backend_pid(), attempts = attempts + 1, "
        "lease_until = now() + make_interval(secs => {lease}) where seq in ("
        "select seq from {queue} where space_id = %s and not_before <= now() "
        "and (claimed_by is null or lease_until < now() or claimed_by <> all "
        "(array(select pid from pg_stat_activity where pid is not null))) "
        "order by seq limit %s for update skip locked) returning seq, row_id, attempts"
    ).format(queue=source.own("queue"), lease=sql.Literal(LEASE_SECONDS))
    with connection.transaction():
        rows = connection.execute(statement, [space.id, limit]).fetchall()
    return sorted((Entry(*row) for row in rows), key=lambda entry: entry.seq)


def settle(connection: psycopg.Connection[Any], source: Source, entries: Sequence[Entry]) -> None:
    """Remove entries that are done, in the caller's transaction."""
    statement = sql.SQL("delete from {} where seq = any(%s)").format(source.own("queue"))
    connection.execute(statement, [[entry.seq for entry in entries]])


def put_back(
    connection: psycopg.Connection[Any],
    source: Source,
    entries: Sequence[Entry],
    delay_seconds: float = 0.0,
) -> None:
    """Free claimed entries for whoever comes, after a delay."""
    statement = sql.SQL(
        "update {} set claimed_by = null, not_before = now() + make_interval(secs => %s) "
        "where seq = any(%s)"
    ).format(source.own("queue"))
    connection.execute(statement, [delay_seconds, [entry.seq for entry in entries]])


def enqueue(
    connection: psycopg.Connection[Any], source: Source, space: Space, ids: Sequence[RowId]
) -> None:
    """Queue rows that a job could not settle."""
    if not ids:
        return
    statement = sql.SQL("insert into {} (space_id, row_id) select %s, unnest(%s::{}[])").format(
        source.own("queue"), sql.SQL(source.id_type)
    )
    connection.execute(statement, [space.id, list(ids)])


def edge(
    connection: psycopg.Connection[Any], source: Source, space: Space, which: Literal["min", "max"]
) -> int | None:
    """The oldest or the newest entry of a space; None when nothing waits."""
    statement = sql.SQL(f"select {which}(seq) from {{}} where space_id = %s")
    row = connection.execute(statement.format(source.own("queue")), [space.id]).fetchone()
    return row[0] if row else None


def depth(connection: psycopg.Connection[Any], source: Source, space: Space) -> Depth:
    """How much waits for a space, and for how long."""
    statement = sql.SQL(
        "select count(*), coalesce(extract(epoch from clock_timestamp() - min(enqueued_at)), 0) "
        "from {} where space_id = %s"
    ).format(source.own("queue"))
    row = connection.execute(statement, [space.id]).fetchone()
    return Depth(int(row[0]), float(row[1])) if row else Depth(0, 0.0)
