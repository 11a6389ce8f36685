"""Checks on what is stored: counts, staleness, orphans, widths, norms, index, triggers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from migrations import registry
from provider.vectors import embedding, queue, readiness
from provider.vectors.catalog import Catalog
from provider.vectors.embedding import Embedder
from provider.vectors.spaces import PROBE_COSINE, Space


@dataclass(frozen=True)
class Check:
    """One finding. A blocking one that is not `ok` makes a switch unsafe."""

    name: str
    ok: bool
    detail: str
    blocking: bool = True
    value: float | None = None


@dataclass(frozen=True)
class Subject:
    """What is checked, over one connection."""

    connection: psycopg.Connection[Any]
    catalog: Catalog
    space: Space
    embedder: Embedder

    @property
    def vector(self) -> sql.Composable:
        """The column that holds the vector, in `rows`."""
        column = "embedding" if self.space.side else self.space.relation
        return sql.Identifier("v", column)

    @property
    def rows(self) -> sql.Composable:
        """The table that holds the vectors."""
        source = self.catalog.source
        return source.own(self.space.relation) if self.space.side else source.relation

    @property
    def key(self) -> sql.Identifier:
        """Its key."""
        return sql.Identifier("row_id") if self.space.side else self.catalog.source.id

    def one(self, text: str, *parameters: Any, **names: sql.Composable) -> tuple[Any, ...]:
        source = self.catalog.source
        made = sql.SQL(text).format(
            rows=self.rows,
            vector=self.vector,
            key=self.key,
            documents=source.relation,
            id=source.id,
            hash=source.content_hash("d"),
            letters=source.own("dead_letters"),
            **names,
        )
        row = self.connection.execute(made, parameters, prepare=False).fetchone()
        return row or ()


def all_of(subject: Subject, sample: int) -> list[Check]:
    """Every check of what is stored."""
    found = [*_rows(subject), *_vectors(subject), _triggers(subject), _queue(subject)]
    if subject.space.side:
        found += [_stale(subject), _orphans(subject)]
    found += [_index(subject), _model(subject), _sampled(subject, sample)]
    return found


def _rows(subject: Subject) -> list[Check]:
    counted = readiness.caught_up(
        subject.connection, subject.catalog, subject.space, lambda: subject.embedder
    )
    documents = subject.one("select count(*) from {documents}")[0]
    letters = f"{counted.poison:,} rows that no embedder takes (see dead_letters)"
    return [
        Check(
            "missing rows",
            counted.missing == 0,
            f"{counted.missing:,} of {documents:,} documents have no vector",
            value=counted.missing,
        ),
        Check("poison rows", counted.poison == 0, letters, blocking=False, value=counted.poison),
    ]


def _stale(subject: Subject) -> Check:
    stale = subject.one(
        "select count(*) from {rows} v join {documents} d on d.{id} = v.row_id "
        "where v.content_hash <> {hash} and not exists (select from {queue} q "
        "where q.space_id = %s and q.row_id = v.row_id)",
        subject.space.id,
        queue=subject.catalog.source.own("queue"),
    )[0]
    detail = f"{stale:,} vectors are of a former text and nothing is queued to replace them"
    return Check("stale vectors", stale == 0, detail, value=stale)


def _orphans(subject: Subject) -> Check:
    orphans = subject.one(
        "select count(*) from {rows} v where not exists "
        "(select from {documents} d where d.{id} = v.row_id)"
    )[0]
    detail = f"{orphans:,} vectors belong to no document"
    return Check("orphans", orphans == 0, detail, value=orphans)


def _vectors(subject: Subject) -> list[Check]:
    """Width and length of every vector. `e <#> e` is minus the squared length in every type."""
    shape = subject.one(
        "select format_type(a.atttypid, a.atttypmod) from pg_attribute a "
        "where a.attrelid = to_regclass(%s) and a.attname = %s",
        subject.rows.as_string(subject.connection),
        "embedding" if subject.space.side else subject.space.relation,
    )
    width = f"({subject.space.dimensions})"
    low, high, zeros, broken = subject.one(
        "select min(n), max(n), count(*) filter (where n < 1e-6), "
        "count(*) filter (where n = 'NaN' or n = 'Infinity') from (select "
        "sqrt(greatest(0, -({vector} {product} {vector}))) as n from {rows} v "
        "where {vector} is not null) lengths",
        product=subject.space.operation("<#>"),
    )
    lengths = "no vectors" if low is None else f"lengths from {low:.4f} to {high:.4f}"
    unit = low is not None and abs(low - 1) < 1e-2 and abs(high - 1) < 1e-2
    return [
        Check("dimensions", bool(shape) and shape[0].endswith(width), f"stored as {shape[0]}"),
        Check(
            "usable vectors",
            not zeros and not broken,
            f"{zeros:,} zero vectors, {broken:,} with NaN or infinity",
            value=zeros + broken,
        ),
        Check("normalised", unit or low is None, lengths, blocking=False),
    ]


def _index(subject: Subject) -> Check:
    space, source = subject.space, subject.catalog.source
    if space.side:
        ok = registry.has_index(subject.connection, source, space)
    else:
        row = subject.one(
            "select exists (select from pg_index i join pg_class x on x.oid = i.indexrelid "
            "join pg_am a on a.oid = x.relam where i.indrelid = to_regclass(%s) "
            "and i.indisvalid and a.amname in ('hnsw', 'ivfflat'))",
            source.relation.as_string(subject.connection),
        )
        ok = bool(row[0])
    detail = "a valid index" if ok else "no valid index: searches read every vector"
    return Check("index", ok, detail, blocking=space.side)


def _triggers(subject: Subject) -> Check:
    lost = registry.lost_triggers(subject.connection, subject.catalog.source)
    detail = f"lost or disabled: {', '.join(lost)}" if lost else "all four are on"
    return Check("triggers", not lost, detail, value=len(lost))


def _queue(subject: Subject) -> Check:
    depth = queue.depth(subject.connection, subject.catalog.source, subject.space)
    detail = f"{depth.entries:,} rows wait, the oldest for {depth.oldest_seconds:.1f} s"
    return Check("lag", depth.oldest_seconds < 60, detail, value=depth.oldest_seconds)


def _model(subject: Subject) -> Check:
    vector = embedding.probe(subject.embedder)
    if subject.space.probe is None:
        return Check("model", True, "first seen now", blocking=False)
    if len(vector) != subject.space.dimensions:
        return Check("model", False, f"gives {len(vector)} dimensions")
    similarity = embedding.cosine(subject.space.probe, vector)
    ok = similarity >= PROBE_COSINE
    return Check("model", ok, f"cosine {similarity:.4f} to the probe", value=similarity)


def _sampled(subject: Subject, sample: int) -> Check:
    """Embed some documents again: is what is stored what this model says?"""
    source = subject.catalog.source
    fresh = sql.SQL("v.content_hash = {}").format(source.content_hash("d"))
    statement = sql.SQL(
        "select {text}, {vector} from {rows} v {join} where {vector} is not null and {fresh} "
        "order by random() limit %s"
    ).format(
        text=source.text("d" if subject.space.side else "v"),
        vector=subject.vector,
        rows=subject.rows,
        join=sql.SQL("join {} d on d.{} = v.row_id").format(source.relation, source.id)
        if subject.space.side
        else sql.SQL(""),
        fresh=fresh if subject.space.side else sql.SQL("true"),
    )
    rows = subject.connection.execute(statement, [sample], prepare=False).fetchall()
    texts = [row[0] for row in rows if row[0].strip()]
    again = subject.embedder.embed_texts(texts) if texts else []
    stored = [row[1].to_list() for row in rows if row[0].strip()]
    worst = min(
        (embedding.cosine(a, b) for a, b in zip(stored, again, strict=True)), default=math.nan
    )
    ok = not texts or worst >= PROBE_COSINE
    detail = f"{len(texts)} documents embedded again, lowest cosine {worst:.4f}"
    return Check("stored vectors are this model's", ok, detail, value=worst)
