"""Writes computed vectors so that none is ever stored for a text that has changed meanwhile.

The order of locks is the same everywhere, the documents before the vectors and each in the order
of ids, so writers wait for each other but never in a circle:

1. COPY the vectors into a temporary table.
2. Lock the documents FOR KEY SHARE. One that is being deleted is skipped, and its vector is left
   out: whoever removes it afterwards would not see what this transaction has not yet committed.
3. Lock the vectors that are there. The next statement's snapshot then sees every text that
   another worker's vector was made of.
4. Update those, and insert the others, where the text's hash still is that of the embedded text.
   An insert that somebody else was faster with does nothing.

What is not settled afterwards changed meanwhile; the queue has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from provider.vectors.embedding import Stored
from provider.vectors.source import Source
from provider.vectors.spaces import Space

RowId = Any
"""A document's key: int, str or UUID, as the table has it."""


@dataclass(frozen=True)
class Computed:
    """A vector, and the hash of the text that it was made of."""

    row_id: RowId
    vector: Stored
    content_hash: bytes


def write(
    connection: psycopg.Connection[Any], source: Source, space: Space, rows: Sequence[Computed]
) -> set[RowId]:
    """Write the vectors whose text is unchanged; returns the ids that are settled.

    Runs in the caller's transaction.
    """
    if not rows:
        return set()
    staged = _stage(connection, source, space, rows)
    if not space.side:
        return _write_column(connection, source, space, staged)
    parts = {
        "staged": staged,
        "side": source.own(space.relation),
        "documents": source.relation,
        "id": source.id,
        "hash": source.content_hash("d"),
    }
    for statement in (_LOCK_DOCUMENTS, _LOCK_VECTORS, _UPDATE, _INSERT):
        connection.execute(sql.SQL(statement).format(**parts))
    return {row[0] for row in connection.execute(sql.SQL(_SETTLED).format(**parts))}


_LOCK_DOCUMENTS = (
    "with locked as materialized (select d.{id} as id from {documents} d "
    "where d.{id} in (select row_id from {staged}) order by d.{id} for key share skip locked) "
    "delete from {staged} s where not exists (select from locked where locked.id = s.row_id)"
)
_LOCK_VECTORS = (
    "select from {side} v where v.row_id in (select row_id from {staged}) "
    "order by v.row_id for update"
)
_UPDATE = (
    "update {side} v set embedding = s.embedding, content_hash = s.content_hash, "
    "embedded_at = now() from {staged} s join {documents} d on d.{id} = s.row_id "
    "where v.row_id = s.row_id and {hash} = s.content_hash and v.content_hash <> s.content_hash"
)
_INSERT = (
    "insert into {side} (row_id, embedding, content_hash) "
    "select s.row_id, s.embedding, s.content_hash from {staged} s "
    "join {documents} d on d.{id} = s.row_id where {hash} = s.content_hash "
    "and not exists (select from {side} v where v.row_id = s.row_id) "
    "order by s.row_id on conflict do nothing"
)
_SETTLED = (
    "select s.row_id from {staged} s join {side} v on v.row_id = s.row_id "
    "where v.content_hash = s.content_hash"
)
_COLUMN = (
    "update {documents} d set {column} = s.embedding from {staged} s "
    "where d.{id} = s.row_id and {hash} = s.content_hash returning s.row_id"
)


def _stage(
    connection: psycopg.Connection[Any], source: Source, space: Space, rows: Sequence[Computed]
) -> sql.Identifier:
    columns = sql.SQL("row_id {}, embedding {}, content_hash bytea").format(
        sql.SQL(source.key_type), space.type
    )
    # Named after its columns: behind a pooler the session may hold that of another table.
    shape = hashlib.sha256(columns.as_string(connection).encode()).hexdigest()[:16]
    name = f"sllm_staged_{shape}"
    staged = sql.Identifier("pg_temp", name)
    create = sql.SQL("create temp table if not exists {} ({}) on commit delete rows")
    with connection.cursor() as cursor:
        cursor.execute("set local client_min_messages = warning")
        cursor.execute(create.format(sql.Identifier(name), columns))
        copy = sql.SQL("copy {} from stdin (format binary)").format(staged)
        with cursor.copy(copy) as writer:
            writer.set_types([source.key_wire, space.element, "bytea"])
            for row in rows:
                writer.write_row((row.row_id, row.vector, row.content_hash))
    return staged


def _write_column(
    connection: psycopg.Connection[Any], source: Source, space: Space, staged: sql.Identifier
) -> set[RowId]:
    """The app's own column: the row's own lock makes the comparison with its newest text."""
    lock = sql.SQL(
        "select from {documents} d where d.{id} in (select row_id from {staged}) "
        "order by d.{id} for no key update skip locked"
    )
    parts = {
        "staged": staged,
        "documents": source.relation,
        "id": source.id,
        "column": sql.Identifier(space.relation),
        "hash": source.content_hash("d"),
    }
    connection.execute(lock.format(**parts))
    return {row[0] for row in connection.execute(sql.SQL(_COLUMN).format(**parts))}
