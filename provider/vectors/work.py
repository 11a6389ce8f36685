"""Turns documents into stored vectors: reads texts, embeds outside any transaction, writes guarded.

The backfill and the mirror are drivers over this; both get the same treatment of rows that are
already fresh, that were deleted, and that no embedder will ever take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from provider.vectors import staging
from provider.vectors.embedding import Embedder, Stored, embed, verdict
from provider.vectors.source import Source
from provider.vectors.spaces import Space
from provider.vectors.staging import Computed, RowId


@dataclass(frozen=True)
class Document:
    """A row to embed."""

    row_id: RowId
    text: str
    content_hash: bytes
    fresh: bool
    """Whether the space already has the vector of exactly this text."""


@dataclass
class Outcome:
    """What became of a batch."""

    computed: list[Computed] = field(default_factory=list)
    poison: dict[RowId, tuple[bytes, str]] = field(default_factory=dict)
    """Rows that no retry will help, with their hash and the reason."""
    embedded: int = 0


def read(
    connection: psycopg.Connection[Any], source: Source, space: Space, ids: Sequence[RowId]
) -> list[Document]:
    """The documents of these ids that still exist."""
    statement = sql.SQL(
        f"select d.{{id}}, {{text}}, {{hash}}, {{fresh}} from {{documents}} d {{join}} "
        f"where d.{{id}} = any(%s::{source.id_type}[]) order by d.{{id}}"
    ).format(**_parts(source, space))
    return [Document(*row) for row in connection.execute(statement, [list(ids)])]


def read_range(
    connection: psycopg.Connection[Any],
    source: Source,
    space: Space,
    after: RowId | None,
    first: RowId,
    last: RowId,
    limit: int,
) -> list[Document]:
    """The next `limit` documents of an id range, in the order of ids."""
    lower = sql.SQL("d.{id} >= %s") if after is None else sql.SQL("d.{id} > %s")
    statement = sql.SQL(
        "select d.{id}, {text}, {hash}, {fresh} from {documents} d {join} "
        "where {lower} and d.{id} <= %s order by d.{id} limit %s"
    )
    parts = _parts(source, space)
    made = statement.format(**parts, lower=lower.format(**parts))
    bounds = [first if after is None else after, last, limit]
    return [Document(*row) for row in connection.execute(made, bounds)]


def _parts(source: Source, space: Space) -> dict[str, sql.Composable]:
    join: sql.Composable = sql.SQL("")
    fresh: sql.Composable = sql.SQL("false")
    content_hash = source.content_hash("d")
    if space.side:
        side = sql.SQL("left join {} v on v.row_id = d.{}")
        join = side.format(source.own(space.relation), source.id)
        fresh = sql.SQL("coalesce(v.content_hash = {}, false)").format(content_hash)
    return {
        "id": source.id,
        "text": source.text("d"),
        "hash": content_hash,
        "fresh": fresh,
        "documents": source.relation,
        "join": join,
    }


def compute(
    embedder: Embedder,
    space: Space,
    documents: Sequence[Document],
    patience: int = 6,
    retried: Callable[[Exception], None] = lambda error: None,
) -> Outcome:
    """Embed documents. Touches no database.

    A transient failure is tried again `patience` times with growing pauses, then raised. A batch
    that the embedder refuses is split until the text it refuses stands alone. A failure that no
    text could survive (a wrong key, a model that is not there) is raised at once.
    """
    outcome = Outcome()
    full = [document for document in documents if document.text.strip()]
    for document in documents:
        if not document.text.strip():
            outcome.poison[document.row_id] = (document.content_hash, "the text is empty")
    _compute(embedder, space, full, outcome, patience, retried)
    return outcome


def _compute(
    embedder: Embedder,
    space: Space,
    documents: Sequence[Document],
    outcome: Outcome,
    patience: int,
    retried: Callable[[Exception], None],
) -> None:
    if not documents:
        return
    try:
        vectors = _embed(embedder, space, documents, patience, retried)
    except Exception as error:
        if verdict(error) != "poison":
            raise
        if len(documents) == 1:
            only = documents[0]
            outcome.poison[only.row_id] = (only.content_hash, _reason(error))
            return
        middle = len(documents) // 2
        _compute(embedder, space, documents[:middle], outcome, patience, retried)
        _compute(embedder, space, documents[middle:], outcome, patience, retried)
        return
    outcome.embedded += len(documents)
    outcome.computed += [
        Computed(document.row_id, vector, document.content_hash)
        for document, vector in zip(documents, vectors, strict=True)
    ]


def _embed(
    embedder: Embedder,
    space: Space,
    documents: Sequence[Document],
    patience: int,
    retried: Callable[[Exception], None],
) -> list[Stored]:
    retrying = Retrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, Exception) and verdict(error) == "transient"
        ),
        wait=wait_random_exponential(multiplier=0.4, max=20.0),
        stop=stop_after_attempt(patience),
        before_sleep=lambda state: retried(_failure(state.outcome)),
        reraise=True,
    )
    return retrying(embed, embedder, space, [document.text for document in documents])


def _failure(outcome: Any) -> Exception:
    error = outcome.exception() if outcome is not None else None
    return error if isinstance(error, Exception) else RuntimeError("no outcome")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def store(
    connection: psycopg.Connection[Any], source: Source, space: Space, outcome: Outcome
) -> set[RowId]:
    """Write an outcome in the caller's transaction; returns the ids that are settled.

    A poison row loses the vector of its former text, and is listed with the reason.
    """
    settled = staging.write(connection, source, space, outcome.computed)
    cured = [row.row_id for row in outcome.computed if row.row_id in settled]
    letters = source.own("dead_letters")
    if cured:
        statement = sql.SQL("delete from {} where space_id = %s and row_id = any(%s)")
        connection.execute(statement.format(letters), [space.id, cured])
    for row_id, (content_hash, reason) in outcome.poison.items():
        list_poison = sql.SQL(
            "insert into {} (space_id, row_id, content_hash, reason) values (%s, %s, %s, %s) "
            "on conflict (space_id, row_id) do update set content_hash = excluded.content_hash, "
            "reason = excluded.reason, failed_at = now()"
        )
        connection.execute(list_poison.format(letters), [space.id, row_id, content_hash, reason])
    remove(connection, source, space, list(outcome.poison))
    return settled | set(outcome.poison)


def remove(
    connection: psycopg.Connection[Any], source: Source, space: Space, ids: Sequence[RowId]
) -> None:
    """Remove the vectors of rows that have none any more, in the caller's transaction."""
    if not ids:
        return
    if space.side:
        statement = sql.SQL("delete from {} where row_id = any(%s)")
        connection.execute(statement.format(source.own(space.relation)), [list(ids)])
        return
    statement = sql.SQL("update {} set {} = null where {} = any(%s)")
    column = sql.Identifier(space.relation)
    connection.execute(statement.format(source.relation, column, source.id), [list(ids)])
