"""The backfill on a real PostgreSQL: complete, exact, resumable, shared."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from pgvector.psycopg import register_vector

from migrations import runner
from migrations.backfill import Job, Pace
from migrations.estimate import Budget, estimate
from migrations.fill import Filled, fill
from provider.errors import ConfigurationError
from provider.vectors import catalog, work
from provider.vectors.database import Database
from provider.vectors.flow import run
from tests.vectors.embedders import Refusal
from tests.vectors.postgres import App, text_of


def job_of(app: App, provider: str = "local", **options: Any) -> Job:
    settings = app.settings()
    database = Database(settings)
    with database.connect() as connection:
        found = run(connection, catalog.load(settings))
    space = found.space(provider)
    return Job(database, found.source, space, app.make(space.provider), **options)


def backfill(
    app: App, provider: str = "local", workers: int = 1, index: bool = False, **options: Any
) -> Filled:
    settings = app.settings()
    job = job_of(app, provider, **options)
    with job.database.connect() as connection:
        found = run(connection, catalog.load(settings))
    return fill(job, found, app.target(), workers=workers, build_index=index)


def wrong_vectors(app: App, provider: str = "local") -> dict[str, int]:
    """Every row compared bit by bit with what the model says about its text."""
    model = app.embedders[provider]
    side = job_of(app, provider).space.relation
    counts = {"rows": 0, "missing": 0, "wrong": 0, "orphans": 0}
    with app.connect() as connection:
        register_vector(connection)
        query = (
            f"select d.id, d.content, v.embedding from documents d "
            f"full join sllm.{side} v on v.row_id = d.id"
        )
        if provider == "openai":
            query = "select id, content, embedding from documents"
        for row_id, content, vector in connection.execute(query):
            counts["rows"] += 1
            if row_id is None:
                counts["orphans"] += 1
            elif vector is None:
                counts["missing"] += 1
            elif not np.array_equal(vector.to_numpy(), model.vector(content)):
                counts["wrong"] += 1
    return counts


def prepared(app: App, rows: int) -> App:
    app.upgrade("0001")
    app.fill(rows)
    app.upgrade(runner.EXPANDED)
    return app


@pytest.mark.parametrize("workers", [1, 3])
def test_every_row_gets_exactly_its_vector(app: App, workers: int) -> None:
    prepared(app, 2600)
    before = app.embedders["local"].embedded
    done = backfill(app, workers=workers)
    assert wrong_vectors(app) == {"rows": 2600, "missing": 0, "wrong": 0, "orphans": 0}
    assert app.embedders["local"].embedded == 2600 + before
    assert done.tally.rows == 2600
    assert done.readiness.ready
    assert app.value("select state from sllm.embedding_spaces where provider = 'local'") == "filled"


def test_no_vector_is_written_for_a_row_that_is_being_deleted(app: App) -> None:
    """Who removes it once the row is gone would not see what is not committed here."""
    prepared(app, 4)
    job = job_of(app)
    with app.connect() as app_side, job.database.connect() as ours:
        app_side.execute("delete from documents where id = 2")
        documents = work.read_range(ours, job.source, job.space, None, 1, 4, 10)
        outcome = work.compute(job.embedder, job.space, documents)
        assert work.store(ours, job.source, job.space, outcome) == {1, 3, 4}
        app_side.commit()
        ours.commit()
    backfill(app)
    assert wrong_vectors(app) == {"rows": 3, "missing": 0, "wrong": 0, "orphans": 0}


def test_rows_that_were_queued_before_are_embedded_once(app: App) -> None:
    """A table that is filled after the triggers were there is in the queue and in the ranges."""
    app.upgrade()
    app.fill(400)
    before = app.embedders["local"].embedded
    done = backfill(app, batch=50)
    assert (done.tally.embedded, done.drained.embedded) == (400, 0)
    assert app.embedders["local"].embedded - before < 410  # and the probes
    assert wrong_vectors(app)["missing"] == 0


def test_the_apps_table_is_not_touched(app: App) -> None:
    prepared(app, 2000)
    marks = (
        "select md5(string_agg(embedding::text, '' order by id)), "
        "(select relfilenode from pg_class where relname = 'documents'), "
        "min(xmin::text::bigint), max(xmin::text::bigint) from documents"
    )
    before = app.rows(marks)
    backfill(app)
    assert app.rows(marks) == before
    stats = app.rows(
        "select n_tup_upd, n_dead_tup from pg_stat_all_tables where relname = 'documents'"
    )
    assert stats == [(0, 0)]


def test_rows_that_change_while_they_are_embedded_get_their_new_vector(app: App) -> None:
    prepared(app, 1000)
    changes = iter(range(1, 60))

    def change(texts: list[str]) -> None:
        for number in (next(changes, None), next(changes, None)):
            if number is not None:
                app.rows(
                    "update documents set content = content || ' changed' where id = %s", number
                )
                app.rows("delete from documents where id = %s", 500 + number)
                app.rows("insert into documents (content) values (%s)", f"new {number}")

    app.embedders["local"].before = change
    done = backfill(app, batch=50)
    assert done.tally.moved_on > 0
    app.embedders["local"].before = lambda texts: None
    backfill(app)
    counts = wrong_vectors(app)
    assert counts["wrong"] == counts["orphans"] == counts["missing"] == 0


def test_poison_rows_are_listed_and_the_rest_is_finished(app: App) -> None:
    prepared(app, 600)
    app.rows("update documents set content = '' where id in (3, 300)")
    app.rows("update documents set content = 'poison ' || id where id in (5, 6, 599)")

    def refuse(texts: list[str]) -> None:
        if any(text.startswith("poison") for text in texts):
            raise Refusal(400)

    app.embedders["local"].before = refuse
    done = backfill(app)
    assert done.readiness.ready
    assert done.readiness.poison == 5
    letters = app.rows("select row_id, reason from sllm.dead_letters order by row_id")
    assert letters == [
        (3, "the text is empty"),
        (5, "Refusal: status 400"),
        (6, "Refusal: status 400"),
        (300, "the text is empty"),
        (599, "Refusal: status 400"),
    ]
    assert wrong_vectors(app)["missing"] == 5

    app.rows("update documents set content = 'healed' where id in (3, 5)")
    backfill(app)
    assert app.value("select count(*) from sllm.dead_letters") == 3
    assert wrong_vectors(app)["wrong"] == 0


def test_a_vector_that_must_not_be_stored_is_poison(app: App) -> None:
    prepared(app, 10)
    model = app.embedders["local"]
    embed = model.embed_texts

    def zero(texts: list[str], /) -> list[list[float]]:
        zeroed = {text_of(4): [0.0] * 768, text_of(7): [float("nan")] * 768}
        return [zeroed.get(text, vector) for text, vector in zip(texts, embed(texts), strict=True)]

    model.embed_texts = zero  # type: ignore[method-assign]
    assert backfill(app).readiness.poison == 2


def test_a_stopped_backfill_resumes_where_it_was(app: App) -> None:
    prepared(app, 3000)
    before = app.embedders["local"].embedded
    stop = threading.Event()
    model = app.embedders["local"]
    model.before = lambda texts: stop.set() if model.embedded > 1200 else None
    first = backfill(app, stop=stop)
    assert 0 < first.readiness.missing < 3000
    assert not first.indexed
    model.before = lambda texts: None
    backfill(app)
    assert wrong_vectors(app)["missing"] == 0
    assert model.embedded == 3000 + before


def test_a_hosted_embedder_that_fails_is_tried_again(app: App) -> None:
    prepared(app, 300)
    failures = iter([Refusal(429), Refusal(500), ConnectionError("reset")])

    def fail(texts: list[str]) -> None:
        if (error := next(failures, None)) is not None:
            raise error

    app.embedders["local"].before = fail
    done = backfill(app)
    assert done.tally.retries == 3
    assert done.readiness.ready


def test_a_wrong_key_stops_at_once(app: App) -> None:
    prepared(app, 300)

    def refuse(texts: list[str]) -> None:
        raise Refusal(401)

    app.embedders["local"].before = refuse
    with pytest.raises(Refusal):
        backfill(app)
    assert app.value("select count(*) from sllm.dead_letters") == 0


def test_rows_that_came_in_behind_the_triggers_are_found(app: App) -> None:
    prepared(app, 100)
    backfill(app)
    app.rows("set session_replication_role = replica; insert into documents (content) values ('x')")
    assert backfill(app).readiness.ready
    assert wrong_vectors(app)["missing"] == 0


def test_the_budget_is_kept(app: App) -> None:
    prepared(app, 2000)
    app.rows("update documents set embedding = null")
    space = job_of(app, "openai").space
    with pytest.raises(ConfigurationError, match=r"EMBEDDING_BUDGET_USD=.* is spent"):
        backfill(app, "openai", budget=Budget(space, 0.0001))
    assert 0 < app.embedders["openai"].embedded < 2000 + 2


def test_the_estimate_counts_rows_and_cost(app: App) -> None:
    prepared(app, 500)
    job = job_of(app)
    with app.connect() as connection:
        local = estimate(connection, job.source, job.space, job.embedder)
    assert local.rows == 500
    assert local.dollars == 0
    assert local.rows_per_second
    assert any("500 to embed" in line for line in local.lines())


def test_a_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    pace = Pace(1000.0)
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", waited.append)
    for _ in range(5):
        pace.wait(100, stop)
    assert 0.3 <= waited[-1] <= 0.4
