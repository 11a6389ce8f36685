"""The backfill's work, cut into ranges of keys that workers on any machine claim.

The ranges end at the largest key at the time of the cut: rows that come later are in the queue,
so the backfill ends however fast apps insert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from provider.vectors.source import Source
from provider.vectors.spaces import Space
from provider.vectors.staging import RowId

CHUNK_ROWS = 2000
LEASE_SECONDS = 120


class LostClaim(Exception):
    """Another worker took the range over: this one was silent for longer than its lease."""


@dataclass(frozen=True)
class Chunk:
    """A claimed range of keys; `done_to` is the last key that was written."""

    number: int
    first_id: RowId
    last_id: RowId
    done_to: RowId | None
    rows: int
    rows_done: int


def cut(connection: psycopg.Connection[Any], source: Source, space: Space) -> None:
    """Cut the table into ranges, once; does nothing when there are ranges already.

    The triggers must be there, which revision 0002 sees to.
    """
    statement = sql.SQL(
        "insert into {chunks} (space_id, chunk, first_id, last_id, rows) "
        "select {space}, chunk, {first}, {last}, count(*) from ("
        "select {id} as id, (row_number() over (order by {id}) - 1) / {size} as chunk "
        "from {documents}) numbered group by chunk"
    )
    with connection.transaction():
        connection.execute(
            "select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"sllm cut {space.name}"]
        )
        known = sql.SQL("select exists (select from {} where space_id = %s)")
        row = connection.execute(known.format(_table(source)), [space.id]).fetchone()
        if row == (True,):
            return
        _take_over(connection, source, space)
        connection.execute(
            statement.format(
                chunks=_table(source),
                space=sql.Literal(space.id),
                id=source.id,
                size=sql.Literal(CHUNK_ROWS),
                documents=source.relation,
                first=_edge("min", source),
                last=_edge("max", source),
            )
        )


def _take_over(connection: psycopg.Connection[Any], source: Source, space: Space) -> None:
    """Drop queue entries of rows that the ranges, cut right after, will read anyway: a table that
    was filled after the triggers were there would be embedded twice."""
    statement = sql.SQL(
        "delete from {} q using {} d where q.space_id = %s and d.{} = q.row_id "
        "and q.claimed_by is null"
    )
    made = statement.format(source.own("queue"), source.relation, source.id)
    connection.execute(made, [space.id])


def _edge(which: str, source: Source) -> sql.Composable:
    """First or last key of a range. PostgreSQL before 18 has no min(uuid)."""
    direction = "asc" if which == "min" else "desc"
    return sql.SQL(f"(array_agg(id order by id {direction}))[1]")


def claim(connection: psycopg.Connection[Any], source: Source, space: Space) -> Chunk | None:
    """A range for this session alone, or None when none is free.

    A range is free when nobody has it, when its worker's session is gone (it was killed), or when
    its lease is over.
    """
    statement = sql.SQL(
        "update {chunks} set claimed_by = pg_backend_pid(), "
        "lease_until = now() + make_interval(secs => {lease}) "
        "where space_id = %(space)s and chunk = (select chunk from {chunks} "
        "where space_id = %(space)s and not done and (claimed_by is null or lease_until < now() "
        "or claimed_by <> all (array(select pid from pg_stat_activity where pid is not null))) "
        "order by chunk limit 1 for update skip locked) "
        "returning chunk, first_id, last_id, done_to, rows, rows_done"
    ).format(chunks=_table(source), lease=sql.Literal(LEASE_SECONDS))
    with connection.transaction():
        row = connection.execute(statement, {"space": space.id}).fetchone()
    return Chunk(*row) if row else None


def advance(
    connection: psycopg.Connection[Any],
    source: Source,
    space: Space,
    chunk: Chunk,
    done_to: RowId | None,
    rows: int,
    done: bool,
) -> None:
    """Record progress in the caller's transaction, which also writes the rows.

    Raises `LostClaim`, which rolls both back, when the range is another worker's by now.
    """
    statement = sql.SQL(
        "update {} set done_to = coalesce(%s, done_to), rows_done = rows_done + %s, done = %s, "
        "lease_until = now() + make_interval(secs => {}) "
        "where space_id = %s and chunk = %s and claimed_by = pg_backend_pid()"
    ).format(_table(source), sql.Literal(LEASE_SECONDS))
    cursor = connection.execute(statement, [done_to, rows, done, space.id, chunk.number])
    if cursor.rowcount != 1:
        raise LostClaim(f"range {chunk.number} of {space.name}")


def release(
    connection: psycopg.Connection[Any], source: Source, space: Space, chunk: Chunk
) -> None:
    """Give an unfinished range back."""
    statement = sql.SQL(
        "update {} set claimed_by = null where space_id = %s and chunk = %s "
        "and claimed_by = pg_backend_pid()"
    ).format(_table(source))
    connection.execute(statement, [space.id, chunk.number])


@dataclass(frozen=True)
class Progress:
    """The backfill as a whole, over all workers."""

    rows: int
    rows_done: int
    chunks_left: int


def progress(connection: psycopg.Connection[Any], source: Source, space: Space) -> Progress:
    statement = sql.SQL(
        "select coalesce(sum(rows), 0), coalesce(sum(case when done then rows else rows_done end), "
        "0), count(*) filter (where not done) from {} where space_id = %s"
    ).format(_table(source))
    row = connection.execute(statement, [space.id]).fetchone()
    return Progress(*(int(value) for value in row)) if row else Progress(0, 0, 0)


def _table(source: Source) -> sql.Identifier:
    return source.own("backfill_chunks")
