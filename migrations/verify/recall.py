"""Recall of the index against exact search, and what the two spaces have in common."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from migrations.verify.checks import Check, Subject
from provider.vectors import search
from provider.vectors.embedding import Stored, as_query, embed
from provider.vectors.flow import run

K = 10
MEAN_AT_LEAST, P5_AT_LEAST = 0.98, 0.8
"""A mean alone hides queries that find nothing: both must hold."""


@dataclass(frozen=True)
class Recall:
    """Recall@10 of the index for each sampled query."""

    values: Sequence[float]
    used_index: bool

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else 1.0

    @property
    def p5(self) -> float:
        return quantile(self.values, 0.05)


def measure(subject: Subject, queries: int, ef_search: int) -> Recall:
    """Search stored vectors through the index and exactly, and compare the ten nearest.

    Exact search is another statement, not the same one under other settings, and nothing is
    prepared: a plan prepared under one setting would be used under the other, and a gate that
    compares exact with exact always reports 1.0.
    """
    statement = sql.SQL(
        "select {vector} from {rows} v where {vector} is not null order by random() limit %s"
    ).format(vector=subject.vector, rows=subject.rows)
    vectors = [row[0] for row in subject.connection.execute(statement, [queries], prepare=False)]
    used = bool(vectors) and _uses_index(subject, vectors[0])
    values = [_recall(subject, vector, ef_search) for vector in vectors]
    return Recall(values, used)


def _recall(subject: Subject, vector: Stored, ef_search: int) -> float:
    exact = nearest(subject, vector, "exact", ef_search)
    if not exact:
        return 1.0
    # Equal distances are interchangeable: what counts is how near the found ones are.
    worst = exact[-1][1]
    found = nearest(subject, vector, "index", ef_search)
    return min(1.0, sum(distance <= worst + 1e-6 for _, distance in found) / len(exact))


def nearest(
    subject: Subject, vector: Stored, mode: search.Mode, ef_search: int, k: int = K
) -> list[tuple[Any, float]]:
    """Keys and distances of the `k` nearest."""
    with subject.connection.transaction():
        if mode == "index":
            subject.connection.execute("set local enable_seqscan = off", prepare=False)
        flow = search.search(subject.catalog, subject.space, vector, k, {}, mode, ef_search)
        return [(hit.id, hit.distance) for hit in run(subject.connection, flow)]


def _uses_index(subject: Subject, vector: Stored) -> bool:
    operator = sql.SQL(subject.space.operator)
    explain = sql.SQL(
        "explain select {key} from {rows} v order by {vector} {operator} %s limit 10"
    ).format(key=subject.key, rows=subject.rows, vector=subject.vector, operator=operator)
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


def overlap(one: Subject, other: Subject, queries: Sequence[str], k: int = K) -> list[float]:
    """For each query, the share of the `k` nearest that both spaces have in common."""
    ours = embed_queries(one, queries)
    theirs = embed_queries(other, queries)
    shares: list[float] = []
    for a, b in zip(ours, theirs, strict=True):
        first = {key for key, _ in nearest(one, a, "exact", 100, k)}
        second = {key for key, _ in nearest(other, b, "exact", 100, k)}
        shares.append(len(first & second) / max(1, min(k, len(first))))
    return shares


def embed_queries(subject: Subject, queries: Sequence[str]) -> list[Stored]:
    """Queries as the space's model wants them."""
    asked = [as_query(subject.embedder, query) for query in queries]
    return embed(subject.embedder, subject.space, asked)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share `q` of the values lies (nearest rank); 1.0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 1.0
