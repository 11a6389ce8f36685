"""Search in one space: through the HNSW index, or exactly. Flows, without I/O.

Exact search orders by an expression that no index can serve, instead of switching index scans
off: a plan that psycopg prepared under such a setting would outlive it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

from provider.errors import InvalidRequest
from provider.vectors.catalog import Catalog
from provider.vectors.embedding import Stored
from provider.vectors.filters import Filter, condition
from provider.vectors.flow import Flow, Query
from provider.vectors.source import Column
from provider.vectors.spaces import Space

Mode = Literal["auto", "exact", "index"]
SELECTIVE = 5000
"""A filter that leaves at most so many rows is searched exactly: every match is found, and faster
than an index scan that throws most of what it finds away."""
MOST_RESULTS = 10_000


@dataclass(frozen=True)
class Hit:
    """A document found: its key, its distance to the query, and its other columns."""

    id: Any
    distance: float
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """The SQL of one space: where its vectors are and how they are compared."""

    catalog: Catalog
    space: Space

    @property
    def names(self) -> dict[str, sql.Composable]:
        source = self.catalog.source
        vector: sql.Composable = sql.Identifier("v", "embedding")
        join: sql.Composable = sql.SQL("join {} v on v.row_id = d.{}").format(
            source.own(self.space.relation), source.id
        )
        if not self.space.side:
            vector, join = sql.Identifier("d", self.space.relation), sql.SQL("")
        return {
            "id": source.id,
            "documents": source.relation,
            "join": join,
            "vector": vector,
            "distance": sql.SQL("{} {} %(query)s").format(vector, self.space.operator),
            "key": source.key("d"),
            "columns": sql.SQL(", ").join(column.read("d") for column in returned(self.catalog)),
        }


def returned(catalog: Catalog) -> list[Column]:
    """The columns that a hit carries: all but the app's own vector."""
    own = catalog.source.embedding_column
    return [column for column in catalog.source.columns if column.name != own]


def search(
    catalog: Catalog,
    space: Space,
    query: Stored,
    k: int,
    filter: Filter,
    mode: Mode,
    ef_search: int,
) -> Flow[list[Hit]]:
    """The `k` documents nearest to the query, nearest first.

    Raises `InvalidRequest` for a `k` outside 1 to 10,000 and for a filter that cannot be applied.
    """
    if not 1 <= k <= MOST_RESULTS:
        raise InvalidRequest(f"k={k} is not between 1 and {MOST_RESULTS}.", param="k")
    parts = Parts(catalog, space)
    where, parameters = condition(catalog.source, filter, "d")
    named = {f"f{number}": value for number, value in enumerate(parameters)}
    where = _named(where, list(named))
    filtered = bool(filter) or not catalog.source.whole
    if mode == "auto":
        few = filtered and (yield from _selective(parts, where, named))
        mode = "exact" if few else "index"
    if mode == "index":
        yield _index_settings(catalog, k, ef_search, filtered)
    statement = _EXACT if mode == "exact" else _INDEX
    made = sql.SQL(statement).format(**parts.names, where=where)
    rows = yield Query(made, {"query": query, "k": k, **named})
    return [_hit(catalog, row) for row in rows]


_INDEX = (
    "with nearest as materialized (select d.{id} as key, {distance} as distance "
    "from {documents} d {join} where {vector} is not null and {where} "
    "order by {distance} limit %(k)s) "
    "select {key}, n.distance, {columns} from nearest n join {documents} d on d.{id} = n.key "
    "order by n.distance, n.key"
)
_EXACT = (
    "with nearest as materialized (select d.{id} as key, {distance} as distance "
    "from {documents} d {join} where {vector} is not null and {where} "
    "order by ({distance}) + 0, d.{id} limit %(k)s) "
    "select {key}, n.distance, {columns} from nearest n join {documents} d on d.{id} = n.key "
    "order by n.distance, n.key"
)


def _selective(parts: Parts, where: sql.Composable, named: Mapping[str, Any]) -> Flow[bool]:
    statement = sql.SQL(
        "select count(*) from (select from {documents} d where {where} limit {most}) found"
    ).format(**parts.names, where=where, most=sql.Literal(SELECTIVE + 1))
    rows = yield Query(statement, named)
    return bool(rows[0][0] <= SELECTIVE)


def _index_settings(catalog: Catalog, k: int, ef_search: int, filtered: bool) -> Query:
    """For this transaction only. Without an iterative scan a filter, or a policy that hides rows,
    loses rows silently."""
    settings = {"hnsw.ef_search": str(max(ef_search, min(k, 1000)))}
    if catalog.capabilities.iterative_scan:
        settings["hnsw.iterative_scan"] = "relaxed_order"
    elif filtered:
        settings["hnsw.ef_search"] = "1000"
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return Query(sql.SQL(f"select {calls}"))


def _named(where: sql.Composable, names: list[str]) -> sql.Composable:
    """Positional parameters of a filter as named ones, so that the query can be used twice."""
    text = where.as_string(None)
    for name in names:
        text = text.replace("%s", f"%({name})s", 1)
    return sql.SQL(text)


def _hit(catalog: Catalog, row: tuple[Any, ...]) -> Hit:
    names = [column.name for column in returned(catalog)]
    return Hit(row[0], float(row[1]), dict(zip(names, row[2:], strict=True)))
