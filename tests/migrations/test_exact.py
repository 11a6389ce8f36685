"""Exact search in one pass gives what PostgreSQL's own ORDER BY gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrations.verify import exact
from provider.vectors import search
from provider.vectors.embedding import embed
from provider.vectors.flow import run
from tests.migrations.test_backfill import backfill, prepared
from tests.migrations.test_traps import subject_of
from tests.vectors.postgres import App


@pytest.mark.parametrize("element", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_the_same_as_the_databases_own(
    make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch, metric: str, element: str
) -> None:
    monkeypatch.setattr(exact, "_BLOCK", 37)
    app = prepared(make_app(vector_metric=metric, vector_type=element), 200)
    backfill(app)
    with subject_of(app) as subject:
        queries = embed(subject.embedder, subject.space, ["room window", "river", "document 7"])
        found = exact.nearest(subject, queries, 10)
        for query, ours in zip(queries, found, strict=True):
            flow = search.search(subject.catalog, subject.space, query, 10, {}, "exact", 10)
            theirs = [hit.distance for hit in run(subject.connection, flow)]
            assert [distance for _, distance in ours] == pytest.approx(theirs, abs=1e-4)
        assert exact.nearest(subject, [], 10) == []
