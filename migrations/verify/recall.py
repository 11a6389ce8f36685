"""Recall of the index against exact search, and what the two spaces have in common."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from migrations.verify import exact
from migrations.verify.checks import Check, Subject
from provider.vectors import search
from provider.vectors.embedding import Stored, as_query, embed
from provider.vectors.flow import run

K = 10
MEAN_AT_LEAST, P5_AT_LEAST = 0.98, 0.8
"""A mean alone hides queries that find nothing: both must hold."""
_ROUNDING = 1e-6  # pgvector sums in single precision


@dataclass(frozen=True)
class Recall:
    """Recall@10 of the index for each sampled query."""

    values: Sequence[float]
    used_index: bool
    others: Sequence[exact.Found] = ()
    """The exact nearest of the other queries that were asked in the same pass."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else 1.0

    @property
    def p5(self) -> float:
        return quantile(self.values, 0.05)


def measure(
    subject: Subject, queries: int, ef_search: int, others: Sequence[Stored] = ()
) -> Recall:
    """Search stored vectors through the index and exactly, and compare the ten nearest.

    Exact search does not run in the database's planner, and nothing is prepared: a plan prepared
    under one setting would be used under the other, and a gate that compares exact with exact
    always reports 1.0. Both searches see the same moment. `others` are looked up exactly on the
    way: a pass over a large space is the costly part.
    """
    statement = sql.SQL(
        "select {vector} from {rows} v where {vector} is not null order by random() limit %s"
    ).format(vector=subject.vector, rows=subject.rows)
    with subject.connection.transaction():
        subject.connection.execute("set transaction isolation level repeatable read")
        found = subject.connection.execute(statement, [queries], prepare=False)
        vectors = [row[0] for row in found]
        used = bool(vectors) and _uses_index(subject, vectors[0])
        wanted = exact.nearest(subject, [*vectors, *others], K)
        values = [
            _recall(subject, vector, nearest_ones, ef_search)
            for vector, nearest_ones in zip(vectors, wanted, strict=False)
        ]
    return Recall(values, used, wanted[len(vectors) :])


def _recall(subject: Subject, vector: Stored, wanted: exact.Found, ef_search: int) -> float:
    if not wanted:
        return 1.0
    # Equal distances are interchangeable: what counts is how near the found ones are.
    keys, worst = {key for key, _ in wanted}, wanted[-1][1]
    near = worst + _ROUNDING * max(1.0, abs(worst))
    found = through_index(subject, vector, ef_search)
    return min(1.0, sum(key in keys or far <= near for key, far in found) / len(wanted))


def through_index(subject: Subject, vector: Stored, ef_search: int) -> list[tuple[Any, float]]:
    """Keys and distances of the ten nearest that the index gives."""
    with subject.connection.transaction():
        subject.connection.execute("set local enable_seqscan = off", prepare=False)
        flow = search.search(subject.catalog, subject.space, vector, K, {}, "index", ef_search)
        return [(hit.id, hit.distance) for hit in run(subject.connection, flow)]


def _uses_index(subject: Subject, vector: Stored) -> bool:
    explain = sql.SQL(
        "explain select {key} from {rows} v order by {vector} {operator} %s limit 10"
    ).format(
        key=subject.key, rows=subject.rows, vector=subject.vector, operator=subject.space.operator
    )
    with subject.connection.transaction():
        subject.connection.execute("set local enable_seqscan = off", prepare=False)
        plan = subject.connection.execute(explain, [vector], prepare=False).fetchall()
    return any("Index Scan" in row[0] for row in plan)


def check(recall: Recall) -> Check:
    """The gate."""
    ok = recall.mean >= MEAN_AT_LEAST and recall.p5 >= P5_AT_LEAST
    detail = (
        f"recall@{K} mean {recall.mean:.4f} (at least {MEAN_AT_LEAST}), 5 % of the queries at or "
        f"below {recall.p5:.2f} (at least {P5_AT_LEAST}), {len(recall.values)} queries"
    )
    if not recall.used_index:
        detail += "; no index was used"
    return Check("recall of the index", ok, detail, value=recall.mean)


def overlap(ours: Sequence[exact.Found], theirs: Sequence[exact.Found]) -> list[float]:
    """For each query, the share of the nearest that both spaces have in common."""
    shares: list[float] = []
    for first, second in zip(ours, theirs, strict=True):
        both = {key for key, _ in first} & {key for key, _ in second}
        shares.append(len(both) / max(1, len(first)))
    return shares


def embed_queries(subject: Subject, queries: Sequence[str]) -> list[Stored]:
    """Queries as the space's model wants them."""
    asked = [as_query(subject.embedder, query) for query in queries]
    return embed(subject.embedder, subject.space, asked)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share `q` of the values lies (nearest rank); 1.0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 1.0
