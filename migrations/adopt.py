"""Looks at a live database and proposes the settings for the tables that hold vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from provider.vectors.flow import run
from provider.vectors.source import Column, columns_of, joined_table

_TEXTS = ("text", "character varying", "character", "citext")
_SAMPLE = 500


@dataclass(frozen=True)
class Candidate:
    """A table with a vector column, the settings for it, and what to know before."""

    schema: str
    table: str
    rows: int
    vector: Column
    dimensions: int
    indexes: Sequence[str]
    settings: dict[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def lines(self) -> list[str]:
        """For people: what was found, the settings, the warnings."""
        found = [
            f"{self.schema}.{self.table}: about {self.rows:,} rows, "
            f"{self.vector.name} {self.vector.type}",
            *(f"  index {index}" for index in self.indexes),
        ]
        found += [f"  {name}={value}" for name, value in self.settings.items()]
        return found + [f"  ! {warning}" for warning in self.warnings]


def adopt(connection: psycopg.Connection[Any], own_schema: str) -> list[Candidate]:
    """Every table outside our own schema that has a vector column, largest first. Reads only."""
    rows = connection.execute(
        "select n.nspname, c.relname, greatest(c.reltuples, 0)::bigint, a.attname "
        "from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "join pg_namespace n on n.oid = c.relnamespace join pg_type t on t.oid = a.atttypid "
        "where t.typname in ('vector', 'halfvec') and c.relkind in ('r', 'p') "
        "and a.attnum > 0 and not a.attisdropped and n.nspname <> %s "
        "order by c.reltuples desc, 1, 2, 4",
        [own_schema],
    ).fetchall()
    return [_candidate(connection, *row) for row in rows]


def _candidate(
    connection: psycopg.Connection[Any], schema: str, table: str, rows: int, vector_name: str
) -> Candidate:
    columns = run(connection, columns_of(schema, table))
    vector = next(column for column in columns if column.name == vector_name)
    width = re.search(r"\((\d+)\)", vector.type)
    keys = _keys(connection, schema, table)
    texts = _texts(connection, schema, table, [c for c in columns if c.name not in keys])
    metadata = [column.name for column in columns if column.type == "jsonb"]
    dimensions = int(width[1]) if width else 0
    settings = {
        "VECTOR_TABLE": joined_table(schema, table),
        "VECTOR_ID_COLUMN": keys[0] if len(keys) == 1 else "",
        "VECTOR_TEXT_COLUMNS": ",".join(texts[:1]),
        "VECTOR_METADATA_COLUMN": metadata[0] if metadata else "",
        "VECTOR_EMBEDDING_COLUMN": vector_name,
        "OPENAI_EMBEDDING_DIMENSIONS": str(dimensions or ""),
    }
    return Candidate(
        schema,
        table,
        rows,
        vector,
        dimensions,
        _indexes(connection, schema, table),
        {name: value for name, value in settings.items() if value},
        list(_warnings(connection, schema, table, vector, keys, texts, dimensions)),
    )


def _keys(connection: psycopg.Connection[Any], schema: str, table: str) -> list[str]:
    rows = connection.execute(
        "select a.attname from pg_index i join pg_class c on c.oid = i.indrelid "
        "join pg_namespace n on n.oid = c.relnamespace "
        "join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey) "
        "where n.nspname = %s and c.relname = %s and i.indisprimary",
        [schema, table],
    )
    return [row[0] for row in rows]


def _texts(
    connection: psycopg.Connection[Any], schema: str, table: str, columns: Sequence[Column]
) -> list[str]:
    """The text among these columns, the one with the longest texts first: that is most likely
    embedded. A key is not asked for; as text it may be longer than a short document."""
    names = [column.name for column in columns if column.type.startswith(_TEXTS)]
    lengths: list[tuple[float, str]] = []
    for name in names:
        statement = sql.SQL(
            "select coalesce(avg(length({0})), 0)::float from (select {0} from {1} limit {2}) s"
        ).format(sql.Identifier(name), sql.Identifier(schema, table), sql.Literal(_SAMPLE))
        row = connection.execute(statement).fetchone()
        lengths.append((-float(row[0]) if row else 0.0, name))
    return [name for _, name in sorted(lengths)]


def _indexes(connection: psycopg.Connection[Any], schema: str, table: str) -> list[str]:
    rows = connection.execute(
        "select indexdef from pg_indexes where schemaname = %s and tablename = %s "
        "and indexdef ~ 'USING (hnsw|ivfflat)'",
        [schema, table],
    )
    return [row[0] for row in rows]


def _warnings(
    connection: psycopg.Connection[Any],
    schema: str,
    table: str,
    vector: Column,
    keys: Sequence[str],
    texts: Sequence[str],
    dimensions: int,
) -> Iterator[str]:
    if len(keys) != 1:
        yield f"the primary key has {len(keys)} columns; exactly one is supported"
    if not texts:
        yield "there is no text column: what was embedded is not in this table"
    if len(texts) > 1:
        yield f"other text columns: {', '.join(texts[1:])}; name all that were embedded, in order"
    if not dimensions:
        yield "the vector column has no fixed width"
    if not vector.nullable:
        yield (
            f"{vector.name} is NOT NULL: while EMBEDDING_PROVIDER is another one, inserts need "
            "EMBEDDING_DUAL_WRITE=sync, or ALTER COLUMN ... DROP NOT NULL first"
        )
    row = connection.execute(
        "select c.relrowsecurity, c.relkind = 'p', exists (select from pg_trigger t "
        "where t.tgrelid = c.oid and not t.tgisinternal and (t.tgtype & 2) = 0) from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s",
        [schema, table],
    ).fetchone()
    if row and row[0]:
        yield "row-level security is on: it applies when ids are joined with the table"
    if row and row[1]:
        yield "the table is partitioned: rows written straight into a partition are not noticed"
    if row and row[2]:
        yield "the table has triggers: mirroring into its own column fires its UPDATE triggers"
