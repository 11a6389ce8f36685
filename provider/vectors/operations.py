"""What a store does to the app's table, as flows without I/O: add, update, delete.

Text and vectors are written in one transaction. `sllm.written` tells the triggers which spaces the
transaction has written itself; the others are queued for the mirror.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from provider.errors import InvalidRequest
from provider.protocol.values import is_encodable
from provider.vectors.catalog import Catalog
from provider.vectors.embedding import Stored
from provider.vectors.flow import Flow, Query
from provider.vectors.source import Source
from provider.vectors.spaces import Space
from provider.vectors.staging import RowId

NewDocument = str | Mapping[str, Any]
"""A text, or the values of the columns of a new row."""
Vectors = Mapping[str, Sequence[Stored]]
"""Space name to one vector per document."""
_PER_STATEMENT = 500


@dataclass(frozen=True)
class Written:
    """A row that was written: its key, and the hash of its text as it is stored."""

    row_id: RowId
    content_hash: bytes


def rows_of(source: Source, documents: Sequence[NewDocument]) -> list[dict[str, Any]]:
    """Documents as column values.

    Raises `InvalidRequest` for an unknown column, a missing or empty text, and for a plain text
    where the table has several text columns.
    """
    return [_row(source, number, document) for number, document in enumerate(documents)]


def _row(source: Source, number: int, document: NewDocument) -> dict[str, Any]:
    if isinstance(document, str):
        if len(source.text_columns) != 1:
            raise InvalidRequest(
                f"documents[{number}] is a text, but {source.table} has the text columns "
                f"{', '.join(source.text_columns)}; pass a mapping.",
                param="documents",
            )
        document = {source.text_columns[0]: document}
    row = check_columns(source, document)
    computed = [name for name in source.text_columns if _generated(source, name)]
    if computed:
        raise InvalidRequest(
            f"{source.table}.{computed[0]} is computed by the database, so its text is not known "
            "before the row is there. Insert with SQL of your own; the mirror embeds it.",
            param="documents",
        )
    if not text_of(source, row).strip():
        raise InvalidRequest(f"documents[{number}] has no text.", param="documents")
    return row


def _generated(source: Source, name: str) -> bool:
    column = source.column(name)
    return column is not None and bool(column.generated)


def check_columns(source: Source, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, if every name is a column that may be written and every text can be stored."""
    written = {column.name for column in source.columns if not column.generated}
    known = written - {source.embedding_column}
    unknown = [name for name in values if name not in known]
    if unknown:
        raise InvalidRequest(
            f"{source.table} has no column {unknown[0]!r} to write; it has "
            f"{', '.join(sorted(known))}.",
            param=unknown[0],
        )
    for name, value in values.items():
        if isinstance(value, str) and ("\0" in value or not is_encodable(value)):
            raise InvalidRequest(
                f"{source.table}.{name} cannot hold a NUL byte or a lone surrogate; "
                "expected Unicode text without them.",
                param=name,
            )
    return dict(values)


def text_of(source: Source, row: Mapping[str, Any]) -> str:
    """The text that is embedded, as the database joins it."""
    parts = [row.get(name) for name in source.text_columns]
    return "\n".join(str(part) for part in parts if part is not None)


def hash_of(text: str) -> bytes:
    """16 bytes of SHA-256, as the side tables keep it."""
    return hashlib.sha256(text.encode()).digest()[:16]


def add(
    catalog: Catalog, rows: Sequence[Mapping[str, Any]], texts: Sequence[str], vectors: Vectors
) -> Flow[list[RowId]]:
    """Insert rows with their vectors; returns the keys in the order of `rows`."""
    source = catalog.source
    yield _announce(vectors)
    written: list[Written] = []
    own = own_column(catalog, vectors)
    for start in range(0, len(rows), _PER_STATEMENT):
        part = rows[start : start + _PER_STATEMENT]
        own_part = own[start : start + _PER_STATEMENT] if own else None
        written += yield from _insert(source, part, own_part)
    yield from _put_vectors(catalog, written, texts, vectors)
    return [row.row_id for row in written]


def _insert(
    source: Source, rows: Sequence[Mapping[str, Any]], own: Sequence[Stored] | None
) -> Flow[list[Written]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [sql.Identifier(name) for name in names]
    lines: list[sql.Composable] = []
    parameters: list[Any] = []
    for number, row in enumerate(rows):
        cells: list[sql.Composable] = []
        for name in names:
            cells.append(sql.SQL("%s" if name in row else "default"))
            parameters += [adapted(source, name, row[name])] if name in row else []
        if own is not None:
            cells.append(sql.SQL("%s"))
            parameters.append(own[number])
        lines.append(sql.SQL("({})").format(sql.SQL(", ").join(cells)))
    if own is not None:
        columns.append(sql.Identifier(source.embedding_column or ""))
    statement = sql.SQL("insert into {} as d ({}) values {} returning {}, {}").format(
        source.relation,
        sql.SQL(", ").join(columns),
        sql.SQL(", ").join(lines),
        source.key("d"),
        source.content_hash("d"),
    )
    found = yield Query(statement, parameters)
    return [Written(*row) for row in found]


def update(
    catalog: Catalog,
    row_id: RowId,
    values: Mapping[str, Any],
    text: str | None,
    vectors: Vectors,
) -> Flow[bool]:
    """Change columns of one row, with the vectors of `text`; False when there is no such row.

    A row whose text is not `text` after all (somebody else changed another text column) is left
    to the mirror.
    """
    source = catalog.source
    yield _announce(vectors)
    own = own_column(catalog, vectors)
    sets = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values]
    parameters = [adapted(source, name, value) for name, value in values.items()]
    if own is not None:
        sets.append(sql.SQL("{} = %s").format(sql.Identifier(source.embedding_column or "")))
        parameters.append(own[0])
    statement = sql.SQL("update {} d set {} where d.{} = %s returning {}, {}").format(
        source.relation,
        sql.SQL(", ").join(sets),
        source.id,
        source.key("d"),
        source.content_hash("d"),
    )
    rows = yield Query(statement, [*parameters, row_id])
    if text is not None:
        yield from _put_vectors(catalog, [Written(*row) for row in rows], [text], vectors)
    return bool(rows)


def current(catalog: Catalog, row_id: RowId) -> Flow[dict[str, Any] | None]:
    """The text columns of a row as they are now."""
    source = catalog.source
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in source.text_columns)
    statement = sql.SQL("select {} from {} where {} = %s").format(
        columns, source.relation, source.id
    )
    rows = yield Query(statement, [row_id])
    return dict(zip(source.text_columns, rows[0], strict=True)) if rows else None


def delete(catalog: Catalog, ids: Sequence[RowId]) -> Flow[int]:
    """Delete rows; the triggers delete their vectors. Returns how many there were."""
    source = catalog.source
    rows = yield Query(
        sql.SQL("delete from {} where {} = any(%s) returning 1").format(source.relation, source.id),
        [list(ids)],
    )
    return len(rows)


def adapted(source: Source, name: str, value: Any) -> Any:
    """A value as its column takes it: mappings and lists of a json column as JSON."""
    column = source.column(name)
    return Jsonb(value) if column is not None and column.type in {"jsonb", "json"} else value


def own_column(catalog: Catalog, vectors: Vectors) -> Sequence[Stored] | None:
    """The vectors that go into the app's own column, if they are among these."""
    for space in catalog.spaces:
        if space.name in vectors and not space.side:
            return vectors[space.name]
    return None


def _announce(vectors: Vectors) -> Query:
    return Query("select set_config('sllm.written', %s, true)", [",".join(vectors)])


def _put_vectors(
    catalog: Catalog, written: Sequence[Written], texts: Sequence[str], vectors: Vectors
) -> Flow[None]:
    """The side tables' rows, in the order of keys as everywhere; stored text that differs from
    the embedded text (the app's own triggers may change it) is queued instead."""
    source = catalog.source
    same = [row.content_hash == hash_of(text) for row, text in zip(written, texts, strict=False)]
    order = sorted(range(len(written)), key=lambda number: written[number].row_id)
    for space in catalog.spaces:
        if space.name not in vectors:
            continue
        changed = [written[n].row_id for n in order if not same[n]]
        if changed:
            call = "select {}(%s::smallint, %s::{}[])"
            requeue = sql.SQL(call).format(source.own("requeue"), sql.SQL(source.id_type))
            yield Query(requeue, [space.id, changed])
        if not space.side:
            continue
        parameters = [
            (written[n].row_id, vectors[space.name][n], written[n].content_hash)
            for n in order
            if same[n]
        ]
        if parameters:
            yield Query(_upsert(source, space), parameters, many=True)


def _upsert(source: Source, space: Space) -> sql.Composed:
    return sql.SQL(
        "insert into {} as v (row_id, embedding, content_hash) values (%s, %s, %s) "
        "on conflict (row_id) do update set embedding = excluded.embedding, "
        "content_hash = excluded.content_hash, embedded_at = now()"
    ).format(source.own(space.relation))
