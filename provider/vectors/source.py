"""The table of documents as it is in the database: its key, its texts, its own vector column."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from provider.errors import ConfigurationError
from provider.settings import Settings
from provider.vectors.flow import Flow, Query


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    nullable: bool
    collation: str = ""
    """A clause with its own; empty where it is that of the type."""
    generated: Literal["", "s", "v"] = ""
    """Computed by the database: stored or virtual."""
    wire: str = ""
    """The type whose binary form its values have: text for strings and enumerations, the base type
    for domains."""
    foreign: bool = False
    """An enumeration, or a type of an extension or of the app's: read as text, since nobody here
    knows its binary form."""

    def read(self, alias: str) -> sql.Composed:
        """The column in a select list."""
        cast = sql.SQL("::text") if self.foreign else sql.SQL("")
        return sql.Identifier(alias, self.name) + cast


@dataclass(frozen=True)
class Source:
    """The app's table, and the schema that holds our own tables about it."""

    schema: str
    table_schema: str
    table: str
    id_column: str
    id_type: str
    text_columns: tuple[str, ...]
    metadata_column: str | None = None
    embedding_column: str | None = None
    columns: tuple[Column, ...] = ()
    whole: bool = True
    """Whether this role sees every row: no row-level security applies to it."""

    @property
    def key_type(self) -> str:
        """The key's type for a column of ours. With the key's own collation: an index under
        another one does not serve a join with it."""
        column = self.column(self.id_column)
        return f"{self.id_type}{column.collation if column else ''}"

    @property
    def key_wire(self) -> str:
        """The type that COPY sends keys as."""
        column = self.column(self.id_column)
        return column.wire if column else self.id_type

    def key(self, alias: str) -> sql.Composed:
        """The key in a select list."""
        column = self.column(self.id_column)
        return column.read(alias) if column else sql.Identifier(alias, self.id_column) + sql.SQL("")

    @property
    def relation(self) -> sql.Composable:
        return sql.Identifier(self.table_schema, self.table)

    @property
    def id(self) -> sql.Identifier:
        return sql.Identifier(self.id_column)

    def own(self, name: str) -> sql.Identifier:
        """One of our own tables or functions."""
        return sql.Identifier(self.schema, name)

    def text(self, alias: str) -> sql.Composable:
        """What is embedded of a row: its text columns joined by line breaks, NULLs left out."""
        columns = [sql.Identifier(alias, name) for name in self.text_columns]
        if len(columns) == 1:
            return sql.SQL("coalesce({}::text, '')").format(columns[0])
        return sql.SQL("concat_ws(E'\\n', {})").format(sql.SQL(", ").join(columns))

    def content_hash(self, alias: str) -> sql.Composable:
        """16 bytes of SHA-256 of that text, as the side tables keep it."""
        return sql.SQL("substring(sha256(convert_to({}, 'UTF8')) for 16)").format(self.text(alias))

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


def split_table(name: str) -> tuple[str, str]:
    """`schema.table` or `table` (then in public); a part with a dot is quoted as in SQL.

    Raises `ConfigurationError` for anything else.
    """
    schema, table = _split(name)
    return schema or "public", table


def _split(name: str) -> tuple[str | None, str]:
    parts = re.fullmatch(rf"(?:({_PART})\.)?({_PART})", name)
    if parts is None:
        raise ConfigurationError(
            f"VECTOR_TABLE={name!r} cannot be read; expected table, schema.table, or with quotes "
            'around a part that has a dot: "my.schema"."my.table".'
        )
    schema, table = parts.groups()
    return (_bare(schema) if schema else None, _bare(table))


def joined_table(schema: str, table: str) -> str:
    """What `split_table` takes apart."""
    parts = [table] if schema == "public" else [schema, table]
    return ".".join(_quoted(part) for part in parts)


_PART = r'"(?:[^"]|"")+"|[^".][^.]*'


def _bare(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _quoted(part: str) -> str:
    if "." not in part and not part.startswith('"'):
        return part
    doubled = part.replace('"', '""')
    return f'"{doubled}"'


def located(settings: Settings) -> Flow[tuple[str, str]]:
    """Schema and name of the configured table. A name without a schema is what the search path
    finds; a table that is to be made goes where CREATE TABLE would put it."""
    schema, table = _split(settings.vector_table)
    if schema is not None:
        return schema, table
    rows = yield Query(
        "select coalesce((select n.nspname from pg_class c join pg_namespace n "
        "on n.oid = c.relnamespace where c.relname = %s and c.relkind in ('r', 'p') "
        "and (pg_table_is_visible(c.oid) or n.nspname = 'public') "
        "order by pg_table_is_visible(c.oid) desc limit 1), current_schema(), 'public')::text",
        [table],
    )
    return str(rows[0][0]), table


def columns_of(schema: str, table: str) -> Flow[tuple[Column, ...]]:
    """The table's columns in order; empty when there is no such table."""
    rows = yield Query(
        "select a.attname, format_type(a.atttypid, a.atttypmod), not a.attnotnull, "
        "case when a.attcollation <> t.typcollation then "
        "format(' COLLATE %%I.%%I', cn.nspname, co.collname) else '' end, a.attgenerated::text, "
        "case when t.typcategory in ('S', 'E') then 'text' "
        "else format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) end, "
        "t.typnamespace <> 'pg_catalog'::regnamespace and t.typtype <> 'd' "
        "and t.typname not in ('vector', 'halfvec', 'sparsevec') "
        "from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "join pg_namespace n on n.oid = c.relnamespace join pg_type t on t.oid = a.atttypid "
        "left join pg_collation co on co.oid = a.attcollation "
        "left join pg_namespace cn on cn.oid = co.collnamespace "
        "where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p') "
        "and a.attnum > 0 and not a.attisdropped order by a.attnum",
        [schema, table],
    )
    return tuple(Column(*row) for row in rows)


def inspect(settings: Settings) -> Flow[Source | None]:
    """The configured table, or None when the database has no such table.

    A metadata or vector column of the settings that is not there is left out.
    Raises `ConfigurationError` for a key or text column that is not there, and for a key that is
    not unique.
    """
    schema, table = yield from located(settings)
    columns = yield from columns_of(schema, table)
    if not columns:
        return None
    known = {column.name: column for column in columns}
    for variable, name in _required(settings):
        if name not in known:
            raise ConfigurationError(_no_column(variable, name, settings.vector_table, list(known)))
    _check_names(settings)
    yield from _check_key(settings, schema, table)
    metadata = settings.vector_metadata_column
    vector = settings.vector_embedding_column
    return Source(
        settings.vector_schema,
        schema,
        table,
        settings.vector_id_column,
        known[settings.vector_id_column].type,
        tuple(settings.vector_text_columns),
        metadata if metadata in known and known[metadata].type == "jsonb" else None,
        vector if vector in known else None,
        columns,
        (yield from _sees_all(schema, table)),
    )


def _sees_all(schema: str, table: str) -> Flow[bool]:
    rows = yield Query(
        "select not row_security_active(format('%%I.%%I', %s::text, %s::text)::regclass)",
        [schema, table],
    )
    return bool(rows[0][0])


def check_whole(source: Source) -> None:
    """Raise `ConfigurationError` for a role that row-level security shows only some rows: it would
    take every other document for one that was deleted."""
    if not source.whole:
        raise ConfigurationError(
            f"Row-level security hides rows of {joined_table(source.table_schema, source.table)} "
            "from this role, so it can neither fill nor check a space. Run this with a role that "
            "has BYPASSRLS, or as the table's owner without FORCE ROW LEVEL SECURITY."
        )


def planned(settings: Settings, schema: str | None = None) -> Source:
    """The table as revision 0001 makes it; `schema` is where a name without one is put."""
    found, table = _split(settings.vector_table)
    schema = found or schema or "public"
    return Source(
        settings.vector_schema,
        schema,
        table,
        settings.vector_id_column,
        "bigint",
        tuple(settings.vector_text_columns),
        settings.vector_metadata_column,
        settings.vector_embedding_column,
    )


def _check_names(settings: Settings) -> None:
    """The driver reads a percent sign as a parameter, in names too."""
    names = [*_required(settings), ("VECTOR_TABLE", settings.vector_table)]
    for variable, name in names:
        if "%" in name:
            raise ConfigurationError(
                f"{variable}={name!r} cannot be used: names with a percent sign are not supported; "
                "rename it, or keep the texts in another table."
            )


def _required(settings: Settings) -> list[tuple[str, str]]:
    texts = [("VECTOR_TEXT_COLUMNS", name) for name in settings.vector_text_columns]
    return [("VECTOR_ID_COLUMN", settings.vector_id_column), *texts]


def _no_column(variable: str, name: str, table: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"{variable}={name!r} cannot be used: {table} has no such column; {hint}"
        f"its columns are {', '.join(known)}. `sllm db adopt` proposes the settings."
    )


def _check_key(settings: Settings, schema: str, table: str) -> Flow[None]:
    rows = yield Query(
        "select 1 from pg_index i join pg_class c on c.oid = i.indrelid "
        "join pg_namespace n on n.oid = c.relnamespace join pg_attribute a "
        "on a.attrelid = c.oid and a.attnum = i.indkey[0] "
        "where n.nspname = %s and c.relname = %s and a.attname = %s "
        "and i.indisunique and i.indnkeyatts = 1 and i.indpred is null and a.attnotnull",
        [schema, table, settings.vector_id_column],
    )
    if not rows:
        raise ConfigurationError(
            f"VECTOR_ID_COLUMN={settings.vector_id_column!r} cannot be used: {schema}.{table} has "
            "no primary key or unique, non-null key of that one column; keys of several columns "
            "are not supported."
        )
